package load

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Mode says what a job does, by fio's name for it.
type Mode string

// The modes. ReadWrite and RandReadWrite mix reads and writes.
const (
	Read          Mode = "read"
	Write         Mode = "write"
	ReadWrite     Mode = "rw"
	RandRead      Mode = "randread"
	RandWrite     Mode = "randwrite"
	RandReadWrite Mode = "randrw"
)

var modes = []Mode{Read, Write, ReadWrite, RandRead, RandWrite, RandReadWrite}

// Reads says that the mode reads.
func (m Mode) Reads() bool { return m != Write && m != RandWrite }

// Writes says that the mode writes.
func (m Mode) Writes() bool { return m != Read && m != RandRead }

// Random says that the blocks come in random order.
func (m Mode) Random() bool { return strings.HasPrefix(string(m), "rand") }
func (m Mode) mixed() bool  { return m.Reads() && m.Writes() }

// Options describe the jobs of a run; each field has the meaning of the option
// of fio that it names.
type Options struct {
	Name    string        // name
	Mode    Mode          // rw
	MixRead int           // rwmixread: of 100 operations of a mix, how many read
	Block   int64         // bs, in bytes
	Size    int64         // size: bytes each job works on; Check replaces zero by all there are
	Offset  int64         // offset: where these bytes begin
	Jobs    int           // numjobs: how many at once, all on the same bytes
	Runtime time.Duration // runtime: the end of the run at the latest; zero: none

	TimeBased bool  // time_based: begin again until Runtime is over
	IOSize    int64 // io_size: bytes that each job reads and writes; zero: Size
	IOs       int64 // number_ios: operations of each job at most; zero: no limit

	Theta  float64 // random_distribution=zipf: its θ; zero: all blocks alike
	Repeat bool    // norandommap: a block may come again before all have come
	Seed   uint64  // randseed

	SyncEvery int64         // fsync: sync after so many writes; zero: never
	ThinkTime time.Duration // thinktime: pause after each operation
	Verify    bool          // verify=crc32c: check what is read, and read what was written
}

// An OptionError says which option is wrong. Its text begins with the option's
// name.
type OptionError struct{ text string }

func (e *OptionError) Error() string { return e.text }

func wrong(option string, value any, format string, a ...any) error {
	return &OptionError{fmt.Sprintf("%s %v: %s", option, value, fmt.Sprintf(format, a...))}
}

// maxJobs bounds the threads of a run, maxBlock the memory of each.
const (
	maxJobs  = 1024
	maxBlock = 1 << 30
)

// Check checks the options for a target of size bytes and completes them. The
// error is an *OptionError.
func (o *Options) Check(size int64) error {
	switch {
	case !slices.Contains(modes, o.Mode):
		return wrong("rw", o.Mode, "want read, write, rw, randread, randwrite or randrw")
	case o.MixRead < 0 || o.MixRead > 100:
		return wrong("rwmixread", o.MixRead, "want 0 to 100")
	case o.Block < 1 || o.Block > maxBlock:
		return wrong("bs", o.Block, "want 1 to %d bytes", maxBlock)
	case o.Verify && o.Block < headerLen:
		return wrong("bs", o.Block, "verify needs blocks of %d bytes at least", headerLen)
	case o.Jobs < 1 || o.Jobs > maxJobs:
		return wrong("numjobs", o.Jobs, "want 1 to %d", maxJobs)
	case o.Theta != 0 && !o.Mode.Random():
		return wrong("random_distribution", fmt.Sprintf("zipf:%g", o.Theta), "rw %s is not random", o.Mode)
	case o.TimeBased && o.Runtime == 0:
		return &OptionError{"time_based: needs runtime"}
	}
	return o.checkRange(size)
}

// checkRange checks what the jobs work on.
func (o *Options) checkRange(size int64) error {
	for _, c := range []struct {
		option string
		value  int64
	}{{"size", o.Size}, {"offset", o.Offset}, {"io_size", o.IOSize}, {"number_ios", o.IOs}, {"fsync", o.SyncEvery}, {"runtime", int64(o.Runtime)}, {"thinktime", int64(o.ThinkTime)}} {
		if c.value < 0 {
			return wrong(c.option, c.value, "want a positive number")
		}
	}
	if o.Offset > size {
		return wrong("offset", o.Offset, "there are %d bytes", size)
	}
	if o.Size == 0 {
		o.Size = size - o.Offset
	}
	switch {
	case o.Size > size-o.Offset:
		return wrong("size", o.Size, "there are %d bytes behind offset %d", size-o.Offset, o.Offset)
	case o.Size < o.Block:
		return wrong("bs", o.Block, "there are only %d bytes to work on", o.Size)
	case o.IOSize != 0 && o.IOSize < o.Block:
		return wrong("io_size", o.IOSize, "is less than a block of %d bytes", o.Block)
	}
	return nil
}

// blocks is the number of blocks that a job works on. As in fio what is left
// behind the last whole block is not touched.
func (o *Options) blocks() int64 { return o.Size / o.Block }

// goal is the number of operations after which a job ends.
func (o *Options) goal() int64 {
	goal := o.blocks()
	switch {
	case o.TimeBased:
		goal = math.MaxInt64
	case o.IOSize != 0:
		goal = o.IOSize / o.Block
	}
	if o.IOs != 0 {
		goal = min(goal, o.IOs)
	}
	return goal
}

var errTime = errors.New("want a time such as 10, 10s, 500ms or 2m")

// ParseTime reads a time as fio writes it: a number and us, ms, s, m, h or d,
// or the number alone, which counts units.
func ParseTime(text string, unit time.Duration) (time.Duration, error) {
	digits := strings.TrimRight(text, "usmhd")
	switch text[len(digits):] {
	case "":
	case "us":
		unit = time.Microsecond
	case "ms":
		unit = time.Millisecond
	case "s":
		unit = time.Second
	case "m":
		unit = time.Minute
	case "h":
		unit = time.Hour
	case "d":
		unit = 24 * time.Hour
	default:
		return 0, errTime
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, errTime
	}
	if int64(n) > math.MaxInt64/int64(unit) {
		return 0, errors.New("too long")
	}
	return time.Duration(n) * unit, nil
}

// ParseDistribution reads the value of random_distribution and returns θ, which
// is zero for random.
func ParseDistribution(text string) (theta float64, err error) {
	if text == "random" {
		return 0, nil
	}
	number, ok := strings.CutPrefix(text, "zipf:")
	theta, err = strconv.ParseFloat(number, 64)
	// With θ at 1 the formulas divide by zero, beyond 100 they leave one block.
	if !ok || err != nil || !(theta > 0 && theta <= 100) || theta == 1 {
		return 0, errors.New("want random or zipf:THETA, where THETA is above 0 and not 1, such as zipf:1.1")
	}
	return theta, nil
}
