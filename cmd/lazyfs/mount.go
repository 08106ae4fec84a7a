package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
)

var mountCommand = command{
	name:    "mount",
	args:    []string{"STORE DIR", "FOLDER DIR"},
	min:     2,
	max:     2,
	summary: "Mount a store, or a folder with stores, on a folder",
	about: `A mounted STORE is one file in DIR with its plain name and size. A mounted
FOLDER appears in DIR with each store NAME.lazy as the plain file NAME; other
files appear as they are. With --rw files can be written, and new files become
stores; --codec, --level and --frame say which.

mount returns when the mount is ready; a daemon serves it until lazyfs umount,
or until it gets SIGTERM, SIGINT or SIGHUP, on which it unmounts and makes
everything durable. fsync makes a file durable at once.

OPTIONS are those of mount(8), for lines of fstab: rw, ro, allow_other, nosuid,
nodev, noexec, and cache=, codec=, level=, frame= and log= with the values of the
flags. Under the name mount.fuse.lazyfs the program is what mount(8) runs for
-t fuse.lazyfs; such a mount is writable unless it is ro. remount changes a mount
that is there: those of rw, ro, nosuid, nodev, noexec, suid, dev and exec that are
named.`,
	examples: []string{
		"lazyfs mount vm.img.lazy /mnt",
		"lazyfs mount --rw --codec zstd data /srv/data",
		"lazyfs umount /srv/data",
	},
	declare: func(f *pflag.FlagSet) action {
		m := mounter{flagSet: f, cache: 256 << 20}
		f.BoolVar(&m.rw, "rw", false, "allow writing")
		m.flags.declare(f)
		f.Var(&m.cache, "cache", "memory for decompressed frames")
		f.BoolVar(&m.foreground, "foreground", false, "serve in this process, until the mount is unmounted")
		f.BoolVar(&m.allowOther, "allow-other", false, "let other users access the mount")
		f.StringVar(&m.log, "log", "", "append the daemon's messages to `FILE`, not to the system's log")
		m.options = mountOptions{flags: f, named: make(map[string]bool)}
		f.VarP(&m.options, "options", "o", "set these flags in the words of mount(8): `OPTIONS` with commas between them")
		m.quiet = quietFlag(f)
		f.IntVar(&m.readyFD, readyFlag, 0, "")
		f.BoolVarP(&m.fake, fakeFlag, "f", false, "")
		for _, name := range []string{readyFlag, fakeFlag} {
			f.Lookup(name).Hidden = true
		}
		return m.run
	},
}

// A mounter is one run of mount.
type mounter struct {
	flagSet    *pflag.FlagSet
	flags      storeFlags
	rw         bool
	cache      sizeFlag
	foreground bool
	allowOther bool
	options    mountOptions
	log        string
	quiet      *bool
	fake       bool
	readyFD    int // in a daemon: the pipe to the process that started it
}

func (m *mounter) run(ctx context.Context, args []string) error {
	if _, err := m.flags.options(); err != nil {
		return err
	}
	if m.options.remount {
		return m.remount(args[1]) // with the options of the mount's line in fstab besides
	}
	// A line of fstab with them may be mounted with ro for once.
	for _, name := range []string{"codec", "level", "frame"} {
		if !m.flagSet.Changed("rw") && m.flagSet.Changed(name) {
			return usagef("--%s: has no meaning without --rw", name)
		}
	}
	if m.cache < 1<<20 {
		return usagef("--cache %v: want at least 1M", &m.cache)
	}
	source, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(args[1])
	if err != nil {
		return err
	}
	if m.fake {
		return nil
	}
	if m.foreground {
		return m.serve(ctx, source, dir)
	}
	if err := startDaemon(ctx); err != nil {
		return err
	}
	return m.tell()
}

// tell says what is mounted where, in the user's words.
func (m *mounter) tell() error {
	if *m.quiet {
		return nil
	}
	how := "read-only"
	if m.rw {
		how = "read-write"
	}
	return printLine(os.Stdout, "%s: %s mounted %s", m.flagSet.Arg(1), m.flagSet.Arg(0), how)
}
