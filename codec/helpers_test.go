package codec_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"lazyfs/codec"
)

// levels are the levels at which each codec behaves differently, by ID.
var levels = map[codec.ID][]int{
	codec.Raw:  {0},
	codec.LZ4:  {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
	codec.Zstd: {0, 1, 3, 6, 10},
	codec.Gzip: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
}

var ids = []codec.ID{codec.Raw, codec.LZ4, codec.Zstd, codec.Gzip}

// forEach runs f once for each codec and level.
func forEach(t *testing.T, f func(t *testing.T, c codec.Codec)) {
	for _, id := range ids {
		for _, level := range levels[id] {
			t.Run(fmt.Sprintf("%v/%d", id, level), func(t *testing.T) {
				f(t, mustNew(t, id, level))
			})
		}
	}
}

// mustNew is codec.New for an id and level that are known to be good.
func mustNew(t testing.TB, id codec.ID, level int) codec.Codec {
	t.Helper()
	c, err := codec.New(id, level)
	if err != nil {
		t.Fatal(err)
	}
	if c.ID() != id {
		t.Fatalf("New(%v, %d).ID() = %v", id, level, c.ID())
	}
	return c
}

// seed makes the random content. It is fixed, so that a failure repeats.
const seed = 42

// contents make plain bytes of any length.
var contents = []struct {
	name string
	make func(n int) []byte
}{
	{"zeros", func(n int) []byte { return make([]byte, n) }},
	{"text", text},
	{"random", random},
	{"periodic", func(n int) []byte { return bytes.Repeat([]byte("0123456789abc"), n/13+1)[:n] }},
	{"half", func(n int) []byte { return append(random(n/2), text(n-n/2)...) }},
}

// random returns n bytes that don't compress.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// text returns n bytes of words, which compress to about a third.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%s line %d of the log: took %d us\n",
			[]string{"store", "frame", "index", "commit", "page"}[r.IntN(5)], b.Len(), r.IntN(1000))
	}
	return b.Bytes()[:n]
}

// guardLen is the number of bytes before and behind a guarded slice.
const guardLen = 256

// guarded returns a slice of n bytes whose capacity reaches into guard bytes, and
// a function that fails the test if one of those has changed.
func guarded(t testing.TB, n int) (b []byte, check func()) {
	all := bytes.Repeat([]byte{0xA5}, n+2*guardLen)
	guard := bytes.Clone(all[:guardLen])
	return all[guardLen : guardLen+n], func() {
		t.Helper()
		if !bytes.Equal(all[:guardLen], guard) || !bytes.Equal(all[guardLen+n:], guard) {
			t.Fatalf("bytes outside of a destination of %d bytes were written", n)
		}
	}
}

// encode returns src encoded by c into a destination that has room for anything.
func encode(t testing.TB, c codec.Codec, src []byte) []byte {
	t.Helper()
	dst := make([]byte, len(src)+len(src)/8+1024)
	n, err := c.Encode(dst, src)
	if err != nil {
		t.Fatalf("%v: encode %d bytes: %v", c.ID(), len(src), err)
	}
	return dst[:n:n]
}
