package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/store"
)

var compactCommand = command{
	name:    "compact",
	args:    []string{"STORE"},
	min:     1,
	max:     1,
	summary: "Give the free space in a store back, or compress it again",
	about: `Moves what lies behind free space into it and cuts the file, in place. With
--codec or --level all frames are compressed again, and those written later are,
too. Others may read the store meanwhile, not write it; what they still read stays
until they are done: compact again then. It may be interrupted at any time, also
by a power cut: the store is whole, and the next compact goes on. It needs free
space on the disk of a few MiB, or a sixty-fourth of the store if that is more. The
content is the same, and so are mode and times, for the owner and for root.`,
	examples: []string{
		"lazyfs compact vm.img.lazy",
		"lazyfs compact --codec zstd --level 9 archive.lazy",
	},
	declare: func(f *pflag.FlagSet) action {
		c := compacter{flagSet: f}
		f.Var(&c.codec, "codec", "compress all frames again with `NAME`: lz4, zstd, gzip or raw")
		f.IntVar(&c.level, "level", 0, "compress all frames again, harder (and slower) with a higher `N`; 0 is the codec's default")
		c.quiet = quietFlag(f)
		return c.run
	},
}

// A compacter is one run of compact.
type compacter struct {
	flagSet *pflag.FlagSet
	codec   codecFlag
	level   int
	quiet   *bool
}

func (c *compacter) run(ctx context.Context, args []string) error {
	path := args[0]
	if id := codec.ID(c.codec); id != 0 {
		if err := checkLevel(id, c.level); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // gives the lock up
	s, err := openShared(f)
	if err != nil {
		return err
	}
	meta, err := readMeta(f)
	if err != nil {
		return errors.Join(err, s.Discard())
	}
	before, after, err := c.compact(ctx, s, path)
	// What was moved until an error or an interruption is kept.
	if err := errors.Join(err, s.Close(), meta.putBack(f)); err != nil {
		return err
	}
	return c.tell(path, before, after)
}

// openShared opens the store in f for writing. The writer's lock stays until f, too, is
// closed.
func openShared(f *os.File) (*store.Store, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return store.OpenFile(os.NewFile(uintptr(fd), f.Name()), store.Options{Writable: true, Shared: true})
}

func (c *compacter) compact(ctx context.Context, s *store.Store, path string) (before, after store.Info, err error) {
	if before, err = s.Info(); err != nil {
		return before, after, err
	}
	id := codec.ID(c.codec)
	if id == 0 && c.flagSet.Changed("level") {
		if id, err = codec.Parse(before.Codec); err != nil {
			return before, after, err
		}
		if err = checkLevel(id, c.level); err != nil {
			return before, after, err
		}
	}
	bar := newProgress(*c.quiet, path)
	defer bar.end()
	err = s.Compact(ctx, store.CompactOptions{Codec: id, Level: c.level, Progress: bar.report})
	if err == nil {
		after, err = s.Info()
	}
	return before, after, err
}

// tell prints what became of the store, and how much of it readers hold.
func (c *compacter) tell(path string, before, after store.Info) error {
	if *c.quiet {
		return nil
	}
	closed, err := os.Stat(path)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s: %s, was %s", path, humanSize(closed.Size()), humanSize(before.FileSize))
	used := after.FileSize - after.FreeSize
	if held := after.FreeSize - used/32; held > 256<<10 {
		text += fmt.Sprintf("; about %s more are free once those who read the store are done: compact again then", humanSize(held))
	}
	return printLine(os.Stdout, "%s", text)
}
