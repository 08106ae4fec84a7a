// Command powercut cuts the power under a mount. It records what a file system writes to
// its disk while files are changed and synced on a mount of lazyfs, by the library and by
// the program. Then it looks at what the disk may have held at many moments of that: what
// was acknowledged as durable has to be there, and every store has to be sound, also when
// somebody goes on to write to it.
//
// The disk is a file of a FUSE mount of this program, with a loop device on it, so that
// writes and flushes are seen as the kernel issues them. Of what was written since the last
// flush any part may be there.
//
// It needs root, losetup(8), sqlite3(1) and the mkfs of the file system.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/uffdmap"
)

// A powercut is one run.
type powercut struct {
	lazyfs string        // the program; empty: files are changed without it, for comparison
	kind   string        // of the file system
	size   int64         // of the disk, in bytes
	work   time.Duration // how long files are changed
	cuts   int           // states that are looked at
	seed   uint64
	only   string // part of the names of the subjects that take part
	keep   string // the first state that is wrong is kept by that name

	folder string         // for all that is made
	end    chan os.Signal // has one when the run is to end early
	disk   *disk
	world  *world
	begun  int // how many records there were when the two folders were durable
}

func main() {
	uffdmap.Main()
	if folder := os.Getenv(diskEnv); folder != "" {
		if err := serveDisk(folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var p powercut
	flag.StringVar(&p.lazyfs, "lazyfs", "bin/lazyfs", "the program; empty: do without it, to see what the file system does itself")
	flag.StringVar(&p.kind, "fs", "ext4", "file system below: ext4, xfs or btrfs")
	flag.Int64Var(&p.size, "size", 384<<20, "bytes of the disk")
	flag.DurationVar(&p.work, "work", 10*time.Second, "how long files are changed")
	flag.IntVar(&p.cuts, "cuts", 300, "how many states are looked at")
	flag.Uint64Var(&p.seed, "seed", uint64(time.Now().UnixNano()), "seed of all that is random but the order of the kernel's writes")
	flag.StringVar(&p.only, "only", "", "change only what has this in its name")
	flag.StringVar(&p.keep, "keep", "", "keep the disk of the first state that is wrong in this file")
	flag.Parse()
	if err := p.run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (p *powercut) run() (err error) {
	if p.folder, err = os.MkdirTemp("", "powercut-"); err != nil {
		return err
	}
	defer os.RemoveAll(p.folder)
	p.end = make(chan os.Signal, 1)
	signal.Notify(p.end, os.Interrupt, unix.SIGTERM)
	if p.disk, err = newDisk(p.folder, p.kind, p.size); err != nil {
		return err
	}
	p.world, err = newWorld(p.disk, p.lazyfs, filepath.Join(p.folder, "below", onMount), filepath.Join(p.folder, "away"), p.seed)
	p.world.subjects = slices.DeleteFunc(p.world.subjects, func(s *subject) bool { return !strings.Contains(s.name, p.only) })
	if err == nil {
		err = p.record()
	}
	if e := p.disk.close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	fmt.Printf("seed %d: %s\n%d writes and flushes, %d MiB\n", p.seed, p.world, len(p.disk.log), p.disk.bytes>>20)
	return p.cut()
}

// record has all files changed on the disk.
func (p *powercut) record() (err error) {
	below := filepath.Join(p.folder, "below")
	for _, dir := range []string{below, p.top()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	unmount, err := mountImage(p.disk.path, below, "rw")
	if err != nil {
		return err
	}
	defer func() {
		if e := unmount(); err == nil {
			err = e
		}
	}()
	for _, name := range []string{onMount, beside} {
		if err := os.Mkdir(filepath.Join(below, name), 0o755); err != nil {
			return err
		}
	}
	if err := command("sync", "-f", below); err != nil {
		return err
	}
	p.begun = p.disk.records()
	if p.lazyfs == "" {
		err := p.world.change(filepath.Join(below, onMount), filepath.Join(below, beside), p.work)
		if e := command("sync", "-f", below); err == nil {
			err = e
		}
		p.world.end()
		return err
	}
	leave, err := p.mount(filepath.Join(below, onMount))
	if err != nil {
		return err
	}
	err = p.world.change(p.top(), filepath.Join(below, beside), p.work)
	if e := leave(); err == nil {
		err = e
	}
	p.world.end()
	return err
}

// cut looks at states of the disk.
func (p *powercut) cut() error {
	rng := rand.New(rand.NewPCG(p.seed, 1))
	cuts := make([]int, p.cuts)
	for i := range cuts {
		cuts[i] = rng.IntN(len(p.disk.log) + 1)
		if i%16 == 0 { // After the end of the mount little is written.
			cuts[i] = p.world.ended + rng.IntN(len(p.disk.log)+1-p.world.ended)
		}
	}
	slices.Sort(cuts)
	wrong := 0
	for i, at := range cuts {
		select {
		case <-p.end:
			return fmt.Errorf("interrupted: %d of %d states are wrong", wrong, i)
		default:
		}
		image := filepath.Join(p.folder, fmt.Sprint("cut", i))
		how, err := p.disk.state(image, at, rng)
		if err != nil {
			return err
		}
		if err := p.inspect(image, at); err != nil {
			wrong++
			fmt.Printf("cut at %d (%s): %v\n", at, how, err)
			if p.keep != "" {
				if err := command("cp", "--sparse=always", image, p.keep); err != nil {
					return err
				}
				p.keep = ""
			}
		}
		if err := os.Remove(image); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d states are wrong", wrong, p.cuts)
	}
	fmt.Printf("%d states are as they have to be\n", p.cuts)
	return nil
}

// inspect looks at the disk in image, of which there were at records.
func (p *powercut) inspect(image string, at int) (err error) {
	options := "rw"
	if p.kind == "xfs" {
		options = "nouuid" // Its copy was mounted before.
	}
	dir := filepath.Join(p.folder, "after")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unmount, err := mountImage(image, dir, options)
	if err != nil {
		return err
	}
	defer func() {
		if e := unmount(); e != nil {
			err = e
		}
	}()
	mounted, besides := filepath.Join(dir, onMount), filepath.Join(dir, beside)
	err = p.world.verify(mounted, besides, p.lazyfs == "", at)
	if err != nil || at%8 > 0 || at < p.begun || p.lazyfs == "" {
		return err
	}
	// Whoever goes on finds the same, and so does a mount.
	if err := eachStore(mounted, goOn); err != nil {
		return err
	}
	leave, err := p.mount(mounted)
	if err != nil {
		return err
	}
	err = p.world.verify(p.top(), besides, true, at)
	return errors.Join(err, leave(), p.world.verify(mounted, besides, false, at))
}

func (p *powercut) top() string { return filepath.Join(p.folder, "top") }

// mount mounts folder on top.
func (p *powercut) mount(folder string) (unmount func() error, err error) {
	frame := []string{"4K", "16K", "64K"}[p.seed%3]
	err = command(p.lazyfs, "mount", "--quiet", "--rw", "--frame", frame, folder, p.top())
	return func() error { return command(p.lazyfs, "umount", p.top()) }, err
}
