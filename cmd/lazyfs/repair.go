package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lazyfs/store"
)

// A repairResult is what became of one store that was repaired.
type repairResult struct {
	Store    string `json:"store"`
	Repaired string `json:"repaired"` // the new store
	OK       bool   `json:"ok"`
	Lost     []loss `json:"lost"`
	Error    string `json:"error,omitempty"` // why there is no new store
}

// A loss is a range that could not be got back, or that is doubtful.
type loss struct {
	PlainOffset int64  `json:"plain_offset"`
	PlainLength int64  `json:"plain_length"` // 0: it concerns the store as a whole
	Kept        bool   `json:"kept"`         // there are bytes, which may be old
	Cause       string `json:"cause"`
}

// repairedName is the name of the new store for a damaged one.
func repairedName(path string) string {
	return strings.TrimSuffix(path, suffix) + ".repaired" + suffix
}

// repair writes what can be read of the store at path into a new one beside it.
func (c *checker) repair(ctx context.Context, path string) (repairResult, error) {
	r := repairResult{Store: path, Repaired: repairedName(path), Lost: []loss{}}
	src, err := openNow(path)
	if err != nil {
		return r, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return r, err
	}
	switch _, err := os.Lstat(r.Repaired); {
	case err == nil:
		return r, fmt.Errorf("%s: exists: rename it, since nothing is replaced", r.Repaired)
	case !errors.Is(err, fs.ErrNotExist):
		return r, err
	}
	dst, err := createFile(r.Repaired, false)
	if err != nil {
		return r, err
	}
	defer dst.discard()
	if err := c.salvage(ctx, dst.File, src, &r); err != nil {
		return r, err
	}
	if err := dst.finish(info); err != nil {
		return r, err
	}
	r.OK = len(r.Lost) == 0
	if !*c.quiet {
		c.print("%s: repaired as %s", path, r.Repaired)
	}
	return r, nil
}

func (c *checker) salvage(ctx context.Context, dst, src *os.File, r *repairResult) error {
	bar := newProgress(*c.quiet, r.Store)
	defer bar.end()
	_, err := store.Repair(ctx, dst, src, func(l store.Loss) {
		found := loss{l.Plain.Off, l.Plain.Len, l.Kept, l.Cause}
		r.Lost = append(r.Lost, found)
		bar.end()
		c.print("%s: %v", r.Store, found)
	}, bar.report)
	return err
}

func (l loss) String() string {
	if l.PlainLength == 0 {
		return l.Cause
	}
	what := "lost"
	if l.Kept {
		what = "doubtful"
	}
	return fmt.Sprintf("%s: plain bytes %#x to %#x: %s", what, l.PlainOffset, l.PlainOffset+l.PlainLength, l.Cause)
}

// repairAll repairs all stores, also when one can't be repaired. What could not be got
// back makes it exit with 1.
func (c *checker) repairAll(ctx context.Context, paths []string) error {
	results := make([]repairResult, 0, len(paths))
	var failures []error
	repaired, lost := 0, 0
	for _, path := range paths {
		if ctx.Err() != nil {
			failures = append(failures, ctx.Err())
			break
		}
		r, err := c.repair(ctx, path)
		if err != nil {
			r.Error = err.Error()
			failures = append(failures, err)
		} else {
			repaired++
			lost += len(r.Lost)
		}
		results = append(results, r)
	}
	if err := c.printResults(results); err != nil {
		failures = append(failures, err)
	}
	return verdict(failures, lost > 0, "%s lost or doubtful in %s", count(lost, "range"), count(repaired, "repaired store"))
}
