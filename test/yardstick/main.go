// Command yardstick compares lazyfs's mappings with what the machine can do.
//
//	yardstick [ROW...]
//
// It compiles the C program in the folder c, which does the same works without
// lazyfs, does each work of both sides several times, one after the other so that
// both meet the machine in the same moods, each in a process of its own, and
// prints the medians and their ratios. Without a C compiler or liblz4's headers
// (Debian: gcc, liblz4-dev) it prints lazyfs's side alone. With arguments it does
// only the rows whose names contain one of them. The yardstick decodes from memory;
// in the rows with stored frames it reads each frame from a file and looks at all of
// its bytes first, as a store has to, and serves shared memory. The rows without an
// aim compare with what the kernel maps: the same data in EROFS, if mkfs.erofs is
// there (Debian: erofs-utils), and uncompressed.
//
// It runs in the repository's top folder, as make bench-map does, and wants root,
// 3 GiB of memory and 3 GiB of temporary space.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lazyfs/uffdmap"
)

const rounds = 3

// workEnv tells a process that it is to do one work of lazyfs's side; the folder
// of the stores is its argument.
const workEnv = "LAZYFS_YARDSTICK_WORK"

func main() {
	uffdmap.Main() // does not return in the helper of a served mapping
	do := bench
	if name := os.Getenv(workEnv); name != "" {
		os.Unsetenv(workEnv)
		do = func(args []string) error { return runWork(name, args[0]) }
	}
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "yardstick: %v\n", err)
		os.Exit(1)
	}
}

// bench does the rows whose names contain one of the arguments.
func bench(args []string) error {
	wanted := choose(args)
	if len(wanted) == 0 {
		return fmt.Errorf("no row is called like %s", strings.Join(args, " or "))
	}
	folder, err := os.MkdirTemp("", "yardstick")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	fmt.Fprintln(os.Stderr, "packing the stores")
	if err := makeStores(folder); err != nil {
		return err
	}
	if err := makeErofs(stores{folder: folder}); err != nil {
		fmt.Fprintf(os.Stderr, "without EROFS: %v\n", err)
	}
	machine := &machine{folder: folder, sticks: map[int]*stick{}}
	defer machine.close()
	if err := machine.compile(); err != nil {
		fmt.Fprintf(os.Stderr, "without a yardstick: %v\n", err)
	}
	values := map[work][]float64{}
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, rounds)
		for _, w := range worksOf(wanted) {
			v, err := machine.measure(w)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			values[w] = append(values[w], v)
		}
	}
	printTable(os.Stdout, wanted, values)
	return nil
}

// runWork does one work of lazyfs's side and prints its figure.
func runWork(name, folder string) error {
	name, frame, _ := strings.Cut(name, "/")
	do := works[name]
	if do == nil {
		return errors.New("there is no such work")
	}
	warm(2 * plainSize)
	v, err := do(stores{folder, filepath.Join(folder, "frames"+frame+".lazy")})
	if err != nil {
		return err
	}
	fmt.Println(strconv.FormatFloat(v, 'g', 6, 64))
	return nil
}
