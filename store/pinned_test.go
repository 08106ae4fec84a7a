package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"lazyfs/codec"
)

// Where the file is longer than a store can be a writer has no room beside the reader of
// an older generation, whose bytes may lie anywhere in it. What it says is that, and
// afterwards it has.
func TestPinnedInLongFile(t *testing.T) {
	file := memoryFile(t, nil)
	defer file.Close()
	f, err := os.OpenFile(file.Name(), os.O_RDWR, 0)
	must(t, err)
	s, err := CreateFile(f, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	old, new := noise(64*MinFrameSize, 1), noise(64*MinFrameSize, 2)
	mustWrite(t, s, old, 0)
	must(t, s.Close())
	reader, err := Open(file.Name(), Options{})
	must(t, err)
	write := func() error {
		s, err := Open(file.Name(), Options{Writable: true})
		must(t, err)
		_, err = s.WriteAt(new, 0)
		_, again := s.WriteAt(new, 0)
		must(t, s.Close())
		return errors.Join(err, again)
	}
	must(t, write())
	must(t, file.Truncate(2*maxFileSize))
	if err := write(); !isNoSpace(err) || !errors.Is(err, errFileFull) {
		t.Errorf("write beside a reader to a file of %#x bytes: %v, want %v", 2*int64(maxFileSize), err, errFileFull)
	}
	if got, err := readAll(reader); err != nil || !bytes.Equal(got, old) {
		t.Errorf("what the reader sees changes: %v", err)
	}
	must(t, reader.Close())
	must(t, write())
	reader, err = Open(file.Name(), Options{})
	must(t, err)
	defer reader.Close()
	if got, err := readAll(reader); err != nil || !bytes.Equal(got, new) {
		t.Errorf("what is written later is not there: %v", err)
	}
}

// What a reader held is given back when the store is closed after the reader, though
// nothing was written since.
func TestCloseAfterReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	want := fragment(t, path, "front", 1000)
	s, err := Open(path, Options{Writable: true})
	must(t, err)
	reader, err := Open(path, Options{})
	must(t, err)
	must(t, s.Compact(context.Background(), CompactOptions{Codec: codec.Zstd}))
	must(t, reader.Close())
	must(t, s.Close())
	verifyStore(t, path, want)
	s, err = Open(path, Options{})
	must(t, err)
	defer s.Close()
	info, err := s.Info()
	must(t, err)
	if used := info.StoredSize + info.IndexSize; info.DiskSize > used*5/4 {
		t.Errorf("the closed file takes %d bytes for %d in use", info.DiskSize, used)
	}
}

// A file that is lent to a reader which can't be opened keeps no space from a writer.
func TestLentToNobody(t *testing.T) {
	d, _, _ := closedFile(t)
	path := d.Name()
	r, err := Open(path, Options{})
	must(t, err)
	flip(t, path, r.idx.at.off()+frameHeadLen)
	must(t, r.Close())
	lent, err := os.Open(path)
	must(t, err)
	defer lent.Close()
	if _, err := OpenFile(lent, Options{Lent: true}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("open: %v, want damage", err)
	}
	if gen, pinned, err := oldestPin(d.File, maxGeneration); pinned || err != nil {
		t.Errorf("generation %d is pinned: %t, %v", gen, pinned, err)
	}
}

// A file that is lent and given back has no pin left, whatever the generation was, and
// whatever was expected.
func TestLentAndGivenBack(t *testing.T) {
	f := newForge()
	f.sb.gen = 0
	file := memoryFile(t, f.leaf(f.frame(kindRaw, 0, noise(MinFrameSize, 1))).image())
	defer file.Close()
	lent, other := lockFile(t, file.Name()), lockFile(t, file.Name())
	for _, expect := range []uint64{0, 5} {
		s, err := OpenFile(lent, Options{Lent: true, Expect: expect})
		must(t, err)
		wantOldest(t, other, 9, 0, true)
		must(t, s.Close())
		wantOldest(t, other, 9, 0, false)
	}
}

// A store that lies in its superblock takes no more of the disk however often it is
// committed, beside a reader, too; and where its file is longer a compaction cuts it.
func TestSmallStoreStaysSmall(t *testing.T) {
	for _, before := range []int{0, 1 << 20} { // It was larger before.
		path := filepath.Join(t.TempDir(), "s.lazy")
		s, err := Create(path, CreateOptions{})
		must(t, err)
		defer s.Discard()
		mustWrite(t, s, noise(max(1000, before), 1), 0)
		must(t, s.Sync())
		reader, err := Open(path, Options{})
		must(t, err)
		must(t, s.Truncate(1000))
		must(t, s.Sync())
		begin, err := s.d.Size()
		must(t, err)
		for i := range byte(50) {
			mustWrite(t, s, noise(1000, i), 0)
			must(t, s.Commit())
			mustWrite(t, s, noise(1000, i+100), 0)
			must(t, s.Sync())
			must(t, s.spaceFault())
		}
		if size, err := s.d.Size(); err != nil || size > begin+4*logBlockLen {
			t.Errorf("after 100 commits the file has %d bytes, %v, at first %d", size, err, begin)
		}
		must(t, reader.Close())
		must(t, s.Compact(context.Background(), CompactOptions{}))
		if size, err := s.d.Size(); err != nil || size > dataStart+minSlack {
			t.Errorf("after a compaction the file has %d bytes, %v, want at most %d", size, err, dataStart+minSlack)
		}
		must(t, s.Close())
		verifyStore(t, path, noise(1000, 149))
	}
}

// A hastyDisk calls then behind the first read of the superblocks.
type hastyDisk struct {
	fileDisk
	once sync.Once
	then func()
}

func (d *hastyDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.fileDisk.ReadAt(p, off)
	if off == 0 {
		d.once.Do(d.then)
	}
	return n, err
}

// What a writer uses again between a reader's first look and its lock is not taken for
// what was there before.
func TestOvertakenBeforePin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lazy")
	w, err := Create(path, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	defer w.Discard()
	var want []byte
	write := func() {
		for i := range byte(9) {
			want = noise(20*MinFrameSize, i)
			mustWrite(t, w, want, 0)
			must(t, w.checkpointNow())
		}
	}
	write()
	f, err := os.Open(path)
	must(t, err)
	r, err := openDisk(&hastyDisk{fileDisk: fileDisk{f}, then: write}, f, Options{})
	must(t, err)
	defer r.Discard()
	if got, err := readAll(r); err != nil || !bytes.Equal(got, want) || r.Generation() != w.Generation() {
		t.Errorf("generation %d of %d is read wrong: %v", r.Generation(), w.Generation(), err)
	}
}
