package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"lazyfs/codec"
	"lazyfs/store"
)

func newFlagSet(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SortFlags = false
	f.Usage = func() {}
	return f
}

// parseFlags parses args; see names the command that shows the help.
func parseFlags(f *pflag.FlagSet, args []string, see string) error {
	err := f.Parse(args)
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case err == nil:
		return checkGiven(f, see)
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		var names []string
		f.VisitAll(func(g *pflag.Flag) {
			if !g.Hidden {
				names = append(names, "--"+g.Name)
			}
		})
		if unknown.GetSpecifiedShortnames() != "" {
			return usagef("unknown flag -%s: %s shows the flags", name, see)
		}
		return usagef("unknown flag --%s: %s", name, hint("--"+name, names, see+" shows the flags"))
	case errors.As(err, &value):
		return usagef("--%s %s: %w", value.GetFlag().Name, value.GetValue(), valueCause(value))
	case errors.As(err, &missing):
		return usagef("--%s: needs a value: %s shows which", missing.GetFlag().Name, see)
	}
	return usageError{err}
}

// checkGiven refuses an empty word as the value of a flag: it would mean what the flag
// means when it is not given.
func checkGiven(f *pflag.FlagSet, see string) (err error) {
	f.Visit(func(g *pflag.Flag) {
		if g.Value.Type() == "string" && g.Value.String() == "" {
			err = usagef("--%s: needs a value: %s shows which", g.Name, see)
		}
	})
	return err
}

// valueCause is what is wrong with a flag's value, without the words of pflag and strconv.
func valueCause(invalid *pflag.InvalidValueError) error {
	if number := (*strconv.NumError)(nil); errors.As(invalid, &number) {
		return number.Err
	}
	return invalid.Unwrap()
}

// hint names the word that is nearest to the wrong one, or else says where all
// words are.
func hint(wrong string, words []string, where string) string {
	best, bestDistance := "", 3
	for _, w := range words {
		if d := distance(wrong, w); d < bestDistance {
			best, bestDistance = w, d
		}
	}
	if best == "" {
		return where
	}
	return fmt.Sprintf("did you mean %s?", best)
}

// distance is the number of letters to insert, delete or replace that make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// A sizeFlag is a flag whose value is a number of bytes.
type sizeFlag int64

func (s *sizeFlag) String() string { return shortSize(int64(*s)) }
func (s *sizeFlag) Type() string   { return "SIZE" }
func (s *sizeFlag) Set(text string) error {
	n, err := parseSize(text)
	*s = sizeFlag(n)
	return err
}

// A codecFlag is a flag whose value is a codec; zero when not given.
type codecFlag codec.ID

func (c *codecFlag) Type() string { return "NAME" }
func (c *codecFlag) String() string {
	if *c == 0 {
		return ""
	}
	return codec.ID(*c).String()
}
func (c *codecFlag) Set(name string) error {
	id, err := codec.Parse(name)
	*c = codecFlag(id)
	return err
}

// storeFlags are the flags that say what new stores are like.
type storeFlags struct {
	codec codecFlag
	level int
	frame sizeFlag
}

func (s *storeFlags) declare(f *pflag.FlagSet) {
	s.frame = store.DefaultFrameSize
	f.Var(&s.codec, "codec", "compress with `NAME`: lz4, zstd, gzip or raw (default lz4)")
	f.IntVar(&s.level, "level", 0, "compress harder (and slower) with a higher `N`; 0 is the codec's default")
	f.Var(&s.frame, "frame", "bytes compressed together, a power of two from 4K to 1M")
}

// options checks the flags and returns them as options.
func (s *storeFlags) options() (store.CreateOptions, error) {
	size := int64(s.frame)
	if size < store.MinFrameSize || size > store.MaxFrameSize || size&(size-1) != 0 {
		return store.CreateOptions{}, usagef("--frame %v: want a power of two from 4K to 1M", &s.frame)
	}
	id := codec.ID(s.codec)
	if id == 0 {
		id = codec.LZ4
	}
	if err := checkLevel(id, s.level); err != nil {
		return store.CreateOptions{}, err
	}
	return store.CreateOptions{Codec: id, Level: s.level, FrameSize: int(size)}, nil
}

func checkLevel(id codec.ID, level int) error {
	if _, err := codec.New(id, level); err != nil {
		return usagef("--level %d: %w", level, err)
	}
	return nil
}

func checkJobs(n int) error {
	if n < 1 || n > maxJobs {
		return usagef("--jobs %d: want 1 to %d", n, maxJobs)
	}
	return nil
}

// maxJobs bounds the memory that workers take, a few frames each.
const maxJobs = 1024
