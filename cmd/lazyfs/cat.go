package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/pflag"

	"lazyfs/store"
)

var catCommand = command{
	name:    "cat",
	args:    []string{"STORE [OFFSET [LENGTH]]"},
	min:     1,
	max:     3,
	summary: "Write plain bytes of a store to standard output",
	about: `Writes LENGTH bytes from OFFSET, or less where the store ends before; everything
from OFFSET without LENGTH. Only the frames that hold these bytes are
decompressed. OFFSET and LENGTH are SIZEs: 4096, 0x1000, 64K.`,
	examples: []string{"lazyfs cat vm.img.lazy 1M 512 | od -c"},
	declare: func(*pflag.FlagSet) action {
		return cat
	},
}

func cat(ctx context.Context, args []string) error {
	var sizes [2]int64 // OFFSET, LENGTH
	for i, text := range args[1:] {
		n, err := parseSize(text)
		if err != nil {
			return usagef("%s: %w", text, err)
		}
		sizes[i] = n
	}
	s, err := store.Open(args[0], store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	off := sizes[0]
	if off > s.Size() {
		return fmt.Errorf("%s: offset %#x: the plain data ends at %#x", args[0], off, s.Size())
	}
	n := s.Size() - off
	if len(args) == 3 {
		n = min(n, sizes[1])
	}
	return stream(ctx, endingWriter{ctx, os.Stdout}, s, off, n, runtime.GOMAXPROCS(0), func(int64) {})
}
