package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"lazyfs/internal/load"
)

// benchFlags are the flags of bench that load.Options has no room for.
type benchFlags struct {
	block, size, offset, ioSize, limit sizeFlag
	runtime, thinkTime                 timeFlag
	distribution                       distributionFlag
	rw                                 string
	verify                             choiceFlag

	access, tracking choiceFlag // map only
	picture          string     // map only
	overwrite        bool

	output string
	format choiceFlag
	json   bool
	group  bool
	quiet  bool
}

// declare declares the flags; those of load.Options get their values in
// checkFlags.
func (b *bencher) declare(f *pflag.FlagSet) {
	o := &b.options
	b.block = 4096
	b.runtime.unit, b.thinkTime.unit = time.Second, time.Microsecond
	b.verify = choiceFlag{choices: []string{"crc32c"}}
	b.access = choiceFlag{value: "view", choices: []string{"view", "bytes", "readat"}}
	b.tracking = choiceFlag{value: "auto", choices: []string{"auto", "async", "sync", "none"}}
	b.format = choiceFlag{value: "normal", choices: []string{"normal", "json", "json+"}}

	f.StringVar(&b.rw, "rw", "read", "`MODE`: read, write, rw, randread, randwrite or randrw")
	f.IntVar(&o.MixRead, "rwmixread", 50, "of 100 operations of rw or randrw `N` read")
	f.Var(&b.block, "bs", "bytes of an operation")
	f.Var(&b.size, "size", "bytes each job works on (default all)")
	f.Var(&b.offset, "offset", "where these bytes begin")
	f.IntVar(&o.Jobs, "numjobs", 1, "run `N` jobs at once, all on the same bytes")
	f.Var(&b.runtime, "runtime", "end after this `TIME` at the latest: 10 (seconds), 500ms, 2m")
	f.BoolVar(&o.TimeBased, "time_based", false, "begin again until --runtime is over")
	f.Var(&b.ioSize, "io_size", "bytes each job reads and writes (default --size)")
	f.Int64Var(&o.IOs, "number_ios", 0, "end each job after `N` operations; 0 is no limit")
	f.Var(&b.distribution, "random_distribution", "`KIND` of random: random, or zipf:THETA for some blocks more often, such as zipf:1.1")
	f.BoolVar(&o.Repeat, "norandommap", false, "random blocks may come again before all have come")
	f.Uint64Var(&o.Seed, "randseed", 1, "`NUMBER` that random sequences follow from")
	f.Int64Var(&o.SyncEvery, "fsync", 0, "sync after every `N` writes; 0 is never")
	f.Var(&b.thinkTime, "thinktime", "pause for `TIME` after each operation: 100 (microseconds), 2ms")
	f.Var(&b.verify, "verify", "check blocks by `KIND`: crc32c")
	f.StringVar(&o.Name, "name", "", "`NAME` of the jobs (default that of the mode)")
	f.BoolVar(&b.group, "group_reporting", false, "report all jobs as one")
	f.StringVar(&b.output, "output", "", "write the report to `FILE`")
	f.Var(&b.format, "output-format", "report as `KIND`: normal, json or json+, which has whole distributions")
	f.BoolVar(&b.json, "json", false, "the same as --output-format=json")
	f.BoolVar(&b.overwrite, "overwrite", false, "let writes replace what STORE or PATH holds")
	f.Var(&b.access, "access", "map: `HOW` bytes are reached: view, bytes or readat")
	f.Var(&b.limit, "memory-limit", "map: bound the memory of frames; 0 is no bound")
	f.Var(&b.tracking, "tracking", "map: `HOW` writes are tracked: auto, async, sync or none")
	f.StringVar(&b.picture, "map", "", "map: draw what happened to each page as a picture in `PNG`")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "print no progress")
}

// checkFlags checks what can be checked without the target, and completes the
// options.
func (b *bencher) checkFlags(kind string) error {
	if kind != "map" && kind != "file" {
		return usagef("%q: want map or file", kind)
	}
	for _, name := range []string{"access", "memory-limit", "tracking", "map"} {
		if kind == "file" && b.flagSet.Changed(name) {
			return usagef("--%s: has no meaning with file", name)
		}
	}
	if b.json {
		if b.flagSet.Changed("output-format") && b.format.value != "json" {
			return usagef("--json: contradicts --output-format %s", b.format.value)
		}
		b.format.value = "json"
	}
	o := &b.options
	o.Mode = load.Mode(b.rw)
	if b.rw == "readwrite" { // fio knows both names
		o.Mode = load.ReadWrite
	}
	o.Block, o.Size, o.Offset, o.IOSize = int64(b.block), int64(b.size), int64(b.offset), int64(b.ioSize)
	o.Runtime, o.ThinkTime = b.runtime.value, b.thinkTime.value
	o.Theta = float64(b.distribution)
	o.Verify = b.verify.value != ""
	if o.Name == "" {
		o.Name = b.rw
	}
	// The same checks come again for the size of the target, which is that of the jobs
	// without --size.
	enough := *o
	if enough.Size == 0 {
		enough.Size = o.Block
	}
	if err := enough.Check(enough.Offset + enough.Size); err != nil && enough.Offset+enough.Size > 0 {
		return optionError(err)
	}
	if kind == "map" {
		return b.checkMapFlags()
	}
	return nil
}

// checkMapFlags checks the flags of map against each other.
func (b *bencher) checkMapFlags() error {
	access, tracking, writes := b.access.value, b.tracking.value, b.options.Mode.Writes()
	kept := writes && b.overwrite
	switch {
	case b.overwrite && !writes:
		return usagef("--overwrite: --rw %s does not write", b.rw)
	case b.options.SyncEvery > 0 && !kept:
		return usagef("--fsync: has no meaning without --overwrite")
	case access == "readat" && writes && !kept:
		return usagef("--access readat: writes go to the store: --overwrite allows it")
	case access == "readat" && b.picture != "":
		return usagef("--map: --access readat keeps no pages in memory")
	case tracking == "auto":
		return nil
	case !writes:
		return usagef("--tracking %s: --rw %s does not write", tracking, b.rw)
	case access == "readat",
		access == "view" && tracking == "sync",
		access == "bytes" && tracking == "async":
		return usagef("--tracking %s: --access %s does not have it", tracking, access)
	case tracking == "none" && kept:
		return usagef("--tracking none: --overwrite needs to know what was written")
	case tracking == "none" && b.limit > 0:
		return usagef("--tracking none: --memory-limit needs to know what was written")
	}
	return nil
}

// given are the flags on the command line, by fio's names.
func (b *bencher) given(path string) map[string]string {
	given := map[string]string{"filename": path}
	b.flagSet.Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	return given
}

// optionError makes a usage error of what Options.Check says.
func optionError(err error) error { return usagef("--%w", err) }

// A choiceFlag is a flag whose value is one of some words.
type choiceFlag struct {
	value   string
	choices []string
}

func (c *choiceFlag) Type() string   { return "WORD" }
func (c *choiceFlag) String() string { return c.value }
func (c *choiceFlag) Set(text string) error {
	if !slices.Contains(c.choices, text) {
		return fmt.Errorf("want %s", strings.Join(c.choices, ", "))
	}
	c.value = text
	return nil
}

// A timeFlag is a flag whose value is a time; a number alone counts units.
type timeFlag struct {
	value, unit time.Duration
}

func (t *timeFlag) Type() string { return "TIME" }
func (t *timeFlag) String() string {
	if t.value == 0 {
		return "0"
	}
	return t.value.String()
}
func (t *timeFlag) Set(text string) (err error) {
	t.value, err = load.ParseTime(text, t.unit)
	return err
}

// A distributionFlag is θ of random_distribution, 0 for random.
type distributionFlag float64

func (d *distributionFlag) Type() string { return "KIND" }
func (d *distributionFlag) String() string {
	if *d == 0 {
		return "random"
	}
	return fmt.Sprintf("zipf:%g", float64(*d))
}
func (d *distributionFlag) Set(text string) error {
	theta, err := load.ParseDistribution(text)
	*d = distributionFlag(theta)
	return err
}
