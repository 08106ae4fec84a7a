package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"lazyfs/store"
)

const (
	pageSize  = store.PageSize
	plainSize = 256 << 20 // bytes of the file plain and of the stores of its frames
	largeSize = 1 << 30
	hugeSize  = 1 << 40
)

// stores are the files that lazyfs's works use.
type stores struct {
	folder string
	frames string // the plain file, in frames of the size that the work wants
}

func (s stores) plain() string { return filepath.Join(s.folder, "plain") }
func (s stores) erofs() string { return filepath.Join(s.folder, "erofs") }
func (s stores) large() string { return filepath.Join(s.folder, "large.lazy") }
func (s stores) huge() string  { return filepath.Join(s.folder, "huge.lazy") }

// frameSize is the size of the frames of the store at path.
func frameSize(path string) (int, error) {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return 0, err
	}
	return s.FrameSize(), s.Close()
}

// makeStores writes the plain file, lines of text that lz4 halves, and packs it:
// once with each size of frames, and four times over into one store.
func makeStores(folder string) error {
	s := stores{folder: folder}
	plain, err := os.Create(s.plain())
	if err != nil {
		return err
	}
	defer plain.Close()
	rnd := rand.New(rand.NewPCG(1, 1))
	var text []byte
	for len(text) < 16<<20 {
		text = fmt.Appendf(text, "%016x some words that come again and again %d\n", rnd.Uint64(), rnd.IntN(1000))
	}
	text = text[:16<<20]
	for range plainSize / len(text) {
		if _, err := plain.Write(text); err != nil {
			return err
		}
	}
	for _, frame := range []int{4 << 10, 16 << 10, 64 << 10} {
		path := filepath.Join(folder, fmt.Sprintf("frames%d.lazy", frame))
		if err := pack(path, frame, io.NewSectionReader(plain, 0, plainSize)); err != nil {
			return err
		}
	}
	var four []io.Reader
	for range largeSize / plainSize {
		four = append(four, io.NewSectionReader(plain, 0, plainSize))
	}
	if err := pack(s.large(), 16<<10, io.MultiReader(four...)); err != nil {
		return err
	}
	return makeHuge(s.huge())
}

func pack(path string, frame int, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = store.Pack(context.Background(), f, r, store.PackOptions{CreateOptions: store.CreateOptions{FrameSize: frame}})
	return errors.Join(err, f.Close())
}

// makeHuge makes a store of which only a page in the middle and the last one are
// no holes.
func makeHuge(path string) error {
	s, err := store.Create(path, store.CreateOptions{})
	if err != nil {
		return err
	}
	for _, end := range []int64{hugeSize / 2, hugeSize} {
		if _, err := s.WriteAt([]byte("something"), end-9); err != nil {
			return errors.Join(err, s.Discard())
		}
	}
	return s.Close()
}
