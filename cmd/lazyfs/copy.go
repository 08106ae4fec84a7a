package main

import (
	"context"

	"github.com/spf13/pflag"

	"lazyfs/store"
)

var copyCommand = command{
	name:    "copy",
	args:    []string{"STORE STORE"},
	min:     2,
	max:     2,
	summary: "Copy a store, also one that is being written to",
	about: `The copy is the newest generation of the first store and nothing else, as if it
had been made in one instant; cp of a store in use is not. Mode and times are
kept (the owner too, for root). The copy gets its name when it is complete and
durable.`,
	examples: []string{"lazyfs copy vm.img.lazy backup/vm.img.lazy"},
	declare: func(f *pflag.FlagSet) action {
		force := f.Bool("force", false, "replace the second STORE if it exists")
		quiet := quietFlag(f)
		return func(ctx context.Context, args []string) error {
			return copyStore(ctx, args[0], args[1], *force, *quiet)
		}
	},
}

func copyStore(ctx context.Context, src, dst string, force, quiet bool) error {
	if dst == "-" {
		return errStoreToOutput
	}
	s, info, err := openLike(src)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := checkOther(dst, src, info); err != nil {
		return err
	}
	f, err := createFile(dst, force)
	if err != nil {
		return err
	}
	defer f.discard()
	bar := newProgress(quiet, src)
	defer bar.end()
	if err := store.Copy(ctx, f.File, s, bar.report); err != nil {
		return err
	}
	return f.finish(info)
}
