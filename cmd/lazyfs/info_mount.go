package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/fs"
)

// mountInfo is what info shows of one mount.
type mountInfo struct {
	Mount string `json:"mount"`
	fs.Counters
}

func readMountInfo(dir string) (mountInfo, error) {
	c, err := readCounters(dir)
	if err != nil {
		return mountInfo{}, fmt.Errorf("%s: %w", dir, err)
	}
	return mountInfo{dir, c}, nil
}

// readCounters asks the daemon of the mount at dir.
func readCounters(dir string) (fs.Counters, error) {
	var c fs.Counters
	real, err := resolveMountDir(dir)
	if err != nil {
		return c, err
	}
	if _, err := findMount(real); err != nil {
		return c, err
	}
	buf := make([]byte, 64<<10) // the largest attribute there can be
	n, err := unix.Getxattr(real, fs.CountersAttr, buf)
	if err != nil {
		return c, fmt.Errorf("ask the daemon: %w", err)
	}
	return c, json.Unmarshal(buf[:n], &c)
}

func (i mountInfo) print() error {
	if err := printLine(os.Stdout, "%s", i.Mount); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(name string, n int64, note string) { fmt.Fprintf(w, "  %s\t%d\t%s\n", name, n, note) }
	row("pid", int64(i.PID), fmt.Sprintf("up %v, %v of CPU", i.Uptime.Round(time.Second), i.CPU.Round(10*time.Millisecond)))
	row("memory", i.MemoryBytes, humanSize(i.MemoryBytes)+", cache at most "+humanSize(i.CacheBytes))
	row("reads", i.Reads, humanSize(i.ReadBytes))
	row("writes", i.Writes, humanSize(i.WrittenBytes))
	row("syncs", i.Syncs, "")
	row("opens", i.Opens, "")
	row("lookups", i.Lookups, fmt.Sprintf("%d stats, %d listings", i.Stats, i.Listings))
	row("open files", int64(i.Files), fmt.Sprintf("%d handles, %d files wait for their sync", i.Handles, i.Waiting))
	row("nodes", int64(i.Nodes), "")
	row("errors", i.IOErrors+i.NoSpace, fmt.Sprintf("%d times damage, %d times no space", i.IOErrors, i.NoSpace))
	return w.Flush()
}
