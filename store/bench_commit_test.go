package store

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"lazyfs/codec"
)

// A meter is a disk that counts.
type meter struct {
	disk
	mu           sync.Mutex // guards what follows while a commit is under way
	reads, syncs int
	written      int64   // bytes; those written over before a fdatasync count once
	unsynced     spanSet // of bytes
}

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	m.reads++
	m.mu.Unlock()
	return m.disk.ReadAt(p, off)
}

func (m *meter) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	r := span{off, off + int64(len(p))}
	m.written += r.to - r.from - m.unsynced.count(r)
	m.unsynced.add(r)
	m.mu.Unlock()
	return m.disk.WriteAt(p, off)
}

func (m *meter) Datasync() error {
	m.mu.Lock()
	m.syncs++
	m.unsynced = spanSet{}
	m.mu.Unlock()
	return m.disk.Datasync()
}

// BenchmarkCommit makes one changed page durable, beside a bare write and
// fdatasync of as many bytes into written blocks.
func BenchmarkCommit(b *testing.B) {
	plain := sample(64<<20, 1)
	f := tempFile(b)
	o := PackOptions{CreateOptions: CreateOptions{Codec: codec.LZ4, FrameSize: PageSize}}
	if _, err := Pack(context.Background(), f, bytes.NewReader(plain), o); err != nil {
		b.Fatal(err)
	}
	w, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	m := &meter{disk: fileDisk{w}}
	s, err := openDisk(m, w, Options{Writable: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, PageSize)
	var most, all int64
	turns := 0
	ours := &lane{name: "Sync", run: func() {
		off := r.Int64N(int64(len(plain))/PageSize) * PageSize
		copy(p, plain[off:])
		p[0]++
		before, slot := m.written, s.slot
		if _, err := s.WriteAt(p, off); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
		all, turns = all+m.written-before, turns+1
		if s.slot == slot { // No checkpoint, which comes once in a thousand commits.
			most = max(most, m.written-before)
		}
	}}
	for range 100 { // The first of them make room for the others.
		ours.run()
	}
	most, all, turns, m.syncs = 0, 0, 0, 0
	bareFile := tempFile(b)
	bareFile.WriteAt(make([]byte, 64<<20), 0)
	bareFile.Sync()
	bare := &lane{name: "pwrite + fdatasync", run: func() {
		frame := all/int64(turns) - logBlockLen
		bareFile.WriteAt(p[:min(PageSize, frame)], r.Int64N(16<<10)*PageSize)
		bareFile.WriteAt(p, r.Int64N(16<<10)*PageSize)
		if err := (fileDisk{bareFile}).Datasync(); err != nil {
			b.Fatal(err)
		}
	}}
	race(b, 200, ours, bare)
	shorter("commit of one page", ours.median(), bare.median(), bare.name, 1, 1.3)
	shorter("commit of one page, mean", ours.mean(), bare.mean(), bare.name, 1, 1.3)
	atMost("commit of one page, fdatasyncs", float64(m.syncs)/float64(turns), 1.01, "%.3f")
	atMost("commit of one page, most bytes", float64(most)/1024, 64, "%.1f KiB")
	atMost("commit of one page, mean bytes with checkpoints", float64(all)/float64(turns)/1024, 64, "%.1f KiB")
}
