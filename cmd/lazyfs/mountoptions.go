package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// mountHelper is the name under which mount(8) runs this program for a file system
// of type fuse.lazyfs.
const mountHelper = "mount.fuse.lazyfs"

// fakeFlag is the hidden flag -f, which mount(8) hands on when it is to do all but mount.
const fakeFlag = "fake"

// asCommand returns the command line args, or what it stands for when mount(8) has
// made it: mount.fuse.lazyfs SOURCE DIR [-fnsv] [-o OPTIONS] [-t TYPE]. There a mount
// is writable unless the options say ro, and for a remount they are all it shall have.
func asCommand(args []string) []string {
	if filepath.Base(args[0]) != mountHelper {
		return args
	}
	command := []string{"lazyfs", "mount", "--quiet", "-o", "rw,suid,dev,exec"}
	for i := 1; i < len(args); i++ {
		switch args[i] {
		case "-n", "-s", "-v":
		case "-t":
			i++
		default:
			command = append(command, args[i])
		}
	}
	return command
}

// mountOptions is the flag -o, which sets other flags in the words of mount(8).
type mountOptions struct {
	flags   *pflag.FlagSet
	named   map[string]bool // of restrictions: whether the options ask for it or for its opposite
	remount bool            // change a mount that is there
}

// restrictions are the options that restrict a mount, with the kernel's flags for them.
// Without the first two letters they are the opposite.
var restrictions = map[string]uintptr{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC}

// restrict lists the restrictions that the options ask for.
func (o *mountOptions) restrict() []string {
	var names []string
	for name, asked := range o.named {
		if asked {
			names = append(names, name)
		}
	}
	return names
}

func (o *mountOptions) String() string { return "" }
func (o *mountOptions) Type() string   { return "OPTIONS" }

// Set takes options with commas between them.
func (o *mountOptions) Set(text string) error {
	for option := range strings.SplitSeq(text, ",") {
		err := o.set(option)
		if invalid := (*pflag.InvalidValueError)(nil); errors.As(err, &invalid) {
			err = valueCause(invalid)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}
	return nil
}

func (o *mountOptions) set(option string) error {
	name, value, hasValue := strings.Cut(option, "=")
	switch {
	case name == "rw" && !hasValue:
		return o.flags.Set("rw", "true")
	case name == "ro" && !hasValue:
		return o.flags.Set("rw", "false")
	case name == "allow_other" && !hasValue:
		return o.flags.Set("allow-other", "true")
	case slices.Contains([]string{"cache", "codec", "level", "frame", "log"}, name) && hasValue:
		return o.flags.Set(name, value)
	case restrictions[option] != 0:
		o.named[option] = true
		return nil
	case restrictions["no"+option] != 0:
		o.named["no"+option] = false
		return nil
	case option == "remount":
		o.remount = true
		return nil
	case slices.Contains([]string{"user_id", "group_id", "max_read"}, name) && hasValue:
		return nil // The kernel lists them with its mounts, and mount(8) repeats those.
	case slices.Contains(forOthers, option), name == "user", name == "comment", strings.HasPrefix(strings.ToLower(name), "x-"):
		return nil
	}
	return errors.New("unknown option")
}

// forOthers are options that say nothing to lazyfs: what they ask for holds anyway,
// or is the business of mount(8), or of times of access, which a mount leaves alone.
var forOthers = []string{
	"", "defaults", "auto", "noauto", "nofail", "_netdev", "nouser", "users", "owner", "group",
	"async", "default_permissions",
	"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime",
}
