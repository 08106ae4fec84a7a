// Command lazyfs-demo is the part of the demo that maps a store into memory.
//
//	lazyfs-demo touch STORE PLAIN   touches random pages, and compares them with PLAIN
//	lazyfs-demo edit STORE LIST     changes random bytes, and lists their offsets
package main

import (
	"errors"
	"fmt"
	"os"

	"lazyfs/uffdmap"
)

func main() {
	uffdmap.Main() // does not return in the helper of a served mapping
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lazyfs-demo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "touch":
		return touch(args[1], args[2])
	case len(args) == 3 && args[0] == "edit":
		return edit(args[1], args[2])
	}
	return errors.New("usage: lazyfs-demo touch STORE PLAIN | edit STORE LIST")
}
