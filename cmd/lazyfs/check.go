package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"lazyfs/store"
)

var checkCommand = command{
	name:    "check",
	args:    []string{"STORE..."},
	min:     1,
	max:     -1,
	summary: "Read and verify everything in stores",
	about: `Prints a line for each damaged range: what is damaged and where it lies in the
store file, and which plain bytes can't be read. Exit code 0 says that every byte
of all stores was read and is right, 1 that something is damaged, 3 that a store
could not be checked; the others are checked then, too.

With --repair what can be read of each store NAME.lazy is written into a new one,
NAME.repaired.lazy beside it, which may not exist yet; the store itself is not
changed. Prints a line for each range that is lost, which is a hole in the new
store, or doubtful: found without an index, and perhaps older than the last commit.
Exit code 0 says that nothing is.`,
	examples: []string{
		"lazyfs check vm.img.lazy",
		"lazyfs check --repair vm.img.lazy",
		"lazyfs check --json *.lazy | jq '.[] | select(.ok | not) | .store'",
	},
	declare: func(f *pflag.FlagSet) action {
		var c checker
		f.BoolVar(&c.json, "json", false, "print an array with one object for each store, offsets in bytes")
		repair := f.Bool("repair", false, "write what can be read of each STORE into a new store beside it")
		c.quiet = quietFlag(f)
		return func(ctx context.Context, paths []string) error {
			if *repair {
				return c.repairAll(ctx, paths)
			}
			return c.run(ctx, paths)
		}
	},
}

// A checker is one run of check.
type checker struct {
	json  bool
	quiet *bool

	printed error // the first error of print
}

// print prints a line, or nothing when the answer is JSON.
func (c *checker) print(format string, a ...any) {
	if !c.json && c.printed == nil {
		c.printed = printLine(os.Stdout, format, a...)
	}
}

// printResults prints the answer when it is JSON, and returns what kept it, or lines
// before, from being printed.
func (c *checker) printResults(results any) error {
	if c.json {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	return c.printed
}

// A checkResult is what check found in one store.
type checkResult struct {
	Store   string   `json:"store"`
	OK      bool     `json:"ok"`
	Damaged []damage `json:"damaged"`
	Error   string   `json:"error,omitempty"` // why it could not be checked, or not all of it
}

// A damage is one damaged range.
type damage struct {
	Part        string `json:"part"`
	Offset      int64  `json:"offset"`
	Detail      string `json:"detail"`
	PlainOffset int64  `json:"plain_offset"`
	PlainLength int64  `json:"plain_length"` // 0: not known
}

// run checks all stores, also when one can't be checked.
func (c *checker) run(ctx context.Context, paths []string) error {
	results := make([]checkResult, 0, len(paths))
	var failures []error
	checked, bad, ranges := 0, 0, 0
	for _, path := range paths {
		if ctx.Err() != nil {
			failures = append(failures, ctx.Err())
			break
		}
		r, err := c.check(ctx, path)
		if err != nil {
			failures = append(failures, err)
		}
		if err == nil || len(r.Damaged) > 0 {
			checked++
		}
		if len(r.Damaged) > 0 {
			bad++
		}
		ranges += len(r.Damaged)
		results = append(results, r)
	}
	if err := c.printResults(results); err != nil {
		failures = append(failures, err)
	}
	return verdict(failures, ranges > 0, "%s damaged: %s in %s", count(bad, "store"), count(ranges, "damaged range"), count(checked, "store"))
}

// verdict is the error of a run with these failures. format and a tell what was found
// to be bad, which is the answer where nothing failed.
func verdict(failures []error, bad bool, format string, a ...any) error {
	if bad {
		failures = append(failures, notSoError{fmt.Errorf(format, a...)})
	}
	return errors.Join(failures...)
}

// check checks one store and prints what it finds.
func (c *checker) check(ctx context.Context, path string) (checkResult, error) {
	r := checkResult{Store: path, Damaged: []damage{}}
	bar := newProgress(*c.quiet, path)
	err := checkStore(ctx, path, func(d *store.DamageError) {
		r.Damaged = append(r.Damaged, damage{d.Part, d.Off, d.Detail, d.Plain.Off, d.Plain.Len})
	}, bar.report)
	bar.end()
	if err != nil {
		r.Error = err.Error()
	}
	r.OK = err == nil && len(r.Damaged) == 0
	for _, d := range r.Damaged {
		c.print("%s: %v", path, d)
	}
	if r.OK && !*c.quiet {
		c.print("%s: ok", path)
	}
	return r, err
}

// checkStore reports each damage of a store, one that keeps it from being
// opened included.
func checkStore(ctx context.Context, path string, report func(*store.DamageError), progress func(done, total int64)) error {
	s, err := store.Open(path, store.Options{})
	var damaged *store.DamageError
	if errors.As(err, &damaged) {
		report(damaged)
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Check(ctx, report, progress); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (d damage) String() string {
	plain := "plain range not known"
	if d.PlainLength > 0 {
		plain = fmt.Sprintf("plain bytes %#x to %#x", d.PlainOffset, d.PlainOffset+d.PlainLength)
	}
	return fmt.Sprintf("%s at offset %#x: %s: %s", d.Part, d.Offset, plain, d.Detail)
}
