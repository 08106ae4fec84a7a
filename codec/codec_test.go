package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"lazyfs/codec"
)

// What any codec encodes at any level it decodes to the same bytes, in a
// destination of just the plain length; the encoder needs just the length of its
// result; one byte less gives ErrShort; nothing outside is ever written.
func TestConformance(t *testing.T) {
	forEach(t, func(t *testing.T, c codec.Codec) {
		for _, content := range contents {
			for _, size := range []int{0, 1, 13, 4095, 4096, 16384, 1 << 20} {
				if testing.Short() && size > 16384 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d", content.name, size), func(t *testing.T) {
					checkRoundTrip(t, c, content.make(size))
				})
			}
		}
	})
}

// checkRoundTrip is the promise of TestConformance for one plain frame.
func checkRoundTrip(t *testing.T, c codec.Codec, plain []byte) {
	before := bytes.Clone(plain)
	stored := encode(t, c, plain)
	if !bytes.Equal(plain, before) {
		t.Fatal("encode changed its source")
	}

	dst, check := guarded(t, len(stored))
	if n, err := c.Encode(dst, plain); err != nil || !bytes.Equal(dst[:n], stored) {
		t.Fatalf("encode into the %d bytes of the result: %d bytes, %v; want the same result", len(stored), n, err)
	}
	check()
	if len(stored) > 0 {
		dst, check = guarded(t, len(stored)-1)
		if n, err := c.Encode(dst, plain); err != codec.ErrShort {
			t.Fatalf("encode %d bytes into %d: %d, %v; want ErrShort", len(stored), len(stored)-1, n, err)
		}
		check()
	}

	for _, spare := range []int{0, 1, 100} {
		dst, check = guarded(t, len(plain)+spare)
		if n, err := c.Decode(dst, stored); err != nil || !bytes.Equal(dst[:n], plain) {
			t.Fatalf("decode %d bytes into %d: %d bytes, %v; want the plain bytes", len(stored), len(plain)+spare, n, err)
		}
		check()
	}
	for _, missing := range []int{1, 2, 7, len(plain)} {
		if missing > len(plain) || len(plain) == 0 {
			continue
		}
		dst, check = guarded(t, len(plain)-missing)
		if n, err := c.Decode(dst, stored); !errors.Is(err, codec.ErrShort) {
			t.Fatalf("decode %d plain bytes into %d: %d, %v; want ErrShort", len(plain), len(plain)-missing, n, err)
		}
		check()
	}
}

// A level's output decodes with the codec at any other level.
func TestLevelsDecodeEachOther(t *testing.T) {
	plain := text(16384)
	forEach(t, func(t *testing.T, c codec.Codec) {
		got := make([]byte, len(plain))
		n, err := mustNew(t, c.ID(), 0).Decode(got, encode(t, c, plain))
		if err != nil || !bytes.Equal(got[:n], plain) {
			t.Errorf("decode at level 0: %d bytes, %v; want the plain bytes", n, err)
		}
	})
}

// A codec exists for each level of its range and for none outside, and the error
// names codec, level and range.
func TestLevels(t *testing.T) {
	for id, limit := range map[codec.ID]int{codec.Raw: 0, codec.LZ4: 9, codec.Zstd: 22, codec.Gzip: 9} {
		for level := range limit + 1 {
			checkRoundTrip(t, mustNew(t, id, level), text(1000))
		}
		for _, level := range []int{-1, limit + 1, 1000} {
			_, err := codec.New(id, level)
			if err == nil {
				t.Errorf("New(%v, %d) = nil error", id, level)
				continue
			}
			for _, want := range []string{id.String(), fmt.Sprint(level), fmt.Sprintf("0 to %d", limit)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New(%v, %d): %q does not say %q", id, level, err, want)
				}
			}
		}
	}
	for _, id := range []codec.ID{0, 5, 255} {
		if _, err := codec.New(id, 0); err == nil {
			t.Errorf("New(%d, 0) = nil error", uint8(id))
		}
	}
}

// Names and numbers turn into each other, and no other name is taken.
func TestNames(t *testing.T) {
	for _, id := range ids {
		if got, err := codec.Parse(id.String()); got != id || err != nil {
			t.Errorf("Parse(%q) = %v, %v; want %v", id.String(), got, err, id)
		}
	}
	for _, name := range []string{"", "LZ4", "lzma", "codec 5", "raw "} {
		if got, err := codec.Parse(name); err == nil {
			t.Errorf("Parse(%q) = %v, nil; want an error", name, got)
		}
	}
	if got := codec.ID(7).String(); got != "codec 7" {
		t.Errorf("ID(7).String() = %q", got)
	}
}

// One codec works from many goroutines at once, and frames of different
// sizes and codecs don't mix.
func TestConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for _, id := range ids {
		for _, level := range levels[id] {
			c := mustNew(t, id, level)
			for worker := range 3 {
				wg.Go(func() {
					for i := range 10 {
						plain := contents[(worker+i)%len(contents)].make(4096 << ((worker + i) % 3))
						stored := encode(t, c, plain)
						got := make([]byte, len(plain))
						if n, err := c.Decode(got, stored); err != nil || !bytes.Equal(got[:n], plain) {
							t.Errorf("%v level %d: decode beside others: %d bytes, %v; want the plain bytes", id, level, n, err)
						}
					}
				})
			}
		}
	}
	wg.Wait()
}
