package main

import (
	"bufio"
	"context"
	"os"

	"github.com/spf13/pflag"

	"lazyfs/store"
)

var dumpCommand = command{
	name:    "dump",
	args:    []string{"STORE"},
	min:     1,
	max:     1,
	summary: "Show the parts of a store file with their offsets and meaning",
	about: `For each part of the file a line with its offset, its bytes and what they mean,
in the words of store/FORMAT.md.`,
	examples: []string{"lazyfs dump vm.img.lazy | less"},
	declare: func(*pflag.FlagSet) action {
		return dump
	},
}

func dump(ctx context.Context, args []string) error {
	s, err := store.Open(args[0], store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	w := bufio.NewWriterSize(endingWriter{ctx, os.Stdout}, 64<<10)
	if err := s.Dump(w); err != nil {
		return err
	}
	return w.Flush()
}
