package store

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// A plainFile is what a store should hold: the pages that were written, with holes
// between them. Its pages never change once they are in it, so that copies of it
// are cheap.
type plainFile struct {
	size  int64
	pages map[int64]*[PageSize]byte // by offset / PageSize
}

func newPlainFile(b []byte) *plainFile {
	p := &plainFile{pages: map[int64]*[PageSize]byte{}}
	p.write(b, 0)
	return p
}

func (p *plainFile) clone() *plainFile { return &plainFile{p.size, maps.Clone(p.pages)} }

// edit calls change with a new copy of every page in the range, and the part of
// it that lies there, which begins at byte at of the range.
func (p *plainFile) edit(off, n int64, change func(part []byte, at int64)) {
	for at := int64(0); at < n; {
		in := (off + at) % PageSize
		end := min(PageSize, in+n-at)
		page := &[PageSize]byte{}
		if old := p.pages[(off+at)/PageSize]; old != nil {
			*page = *old
		}
		change(page[in:end], at)
		p.pages[(off+at)/PageSize] = page
		at += end - in
	}
}

func (p *plainFile) write(b []byte, off int64) {
	p.edit(off, int64(len(b)), func(part []byte, at int64) { copy(part, b[at:]) })
	p.size = max(p.size, off+int64(len(b)))
}

func (p *plainFile) punch(off, n int64) {
	for page := range p.pages {
		from, to := max(off, page*PageSize), min(off+n, page*PageSize+PageSize)
		switch {
		case to-from == PageSize:
			delete(p.pages, page)
		case from < to:
			p.edit(from, to-from, func(part []byte, _ int64) { clear(part) })
		}
	}
}

func (p *plainFile) truncate(size int64) {
	if size < p.size {
		p.punch(size, p.size-size)
	}
	p.size = size
}

// read fills b from off on, which may lie behind the end.
func (p *plainFile) read(b []byte, off int64) {
	for len(b) > 0 {
		page := p.page(off / PageSize)
		n := copy(b, page[off%PageSize:])
		b, off = b[n:], off+int64(n)
	}
}

func (p *plainFile) page(n int64) *[PageSize]byte {
	if page := p.pages[n]; page != nil {
		return page
	}
	return &hole
}

var hole [PageSize]byte

// diff says how s differs, "" when it holds the same. It reads all pages that
// were written and everything that s does not call a hole.
func (p *plainFile) diff(s *Store) string {
	if s.Size() != p.size {
		return fmt.Sprintf("size is %d, want %d", s.Size(), p.size)
	}
	wanted, err := p.ranges(s)
	if err != nil {
		return err.Error()
	}
	b := diffBuffers.Get().(*[16 * PageSize]byte)
	defer diffBuffers.Put(b)
	for _, r := range wanted {
		for r.Len > 0 {
			got := b[:min(r.Len, int64(len(b)))]
			if _, err := s.ReadAt(got, r.Off); err != nil {
				return fmt.Sprintf("read %d bytes at %#x: %v", len(got), r.Off, err)
			}
			if fault := framesDiffer(s, r.Off, got); fault != "" {
				return fault
			}
			for len(got) > 0 {
				n := min(PageSize, len(got))
				if want := p.page(r.Off / PageSize)[:n]; !bytes.Equal(got[:n], want) {
					return fmt.Sprintf("page at %#x begins with %x, want %x, and differs somewhere", r.Off, got[:min(n, 16)], want[:min(n, 16)])
				}
				got, r = got[n:], Range{r.Off + int64(n), r.Len - int64(n)}
			}
		}
	}
	return ""
}

// framesDiffer says how ReadFrames differs from want, what ReadAt has read at off,
// for its whole frames.
func framesDiffer(s *Store, off int64, want []byte) string {
	frame := s.FrameSize()
	count := len(want) / frame
	if off%int64(frame) != 0 || count == 0 {
		return ""
	}
	got := bytes.Repeat([]byte{0xee}, count*frame)
	done, zeros, err := s.ReadFrames(off/int64(frame), got)
	if done != count || err != nil {
		return fmt.Sprintf("read %d frames at %#x: %d, %v", count, off, done, err)
	}
	for i := range count {
		part := got[i*frame : (i+1)*frame]
		if zeros>>i&1 != 0 {
			clear(part)
		}
		if !bytes.Equal(part, want[i*frame:(i+1)*frame]) {
			return fmt.Sprintf("frame %d at %#x differs between ReadFrames and ReadAt", i, off)
		}
	}
	return ""
}

var diffBuffers = sync.Pool{New: func() any { return new([16 * PageSize]byte) }}

// ranges are the pages of p and the data of s, in order.
func (p *plainFile) ranges(s *Store) ([]Range, error) {
	all := map[int64]bool{}
	for page := range p.pages {
		all[page] = true
	}
	for off := int64(0); off < p.size; {
		data, err := s.SeekData(off)
		if err == io.EOF {
			break
		}
		if err == nil {
			off, err = s.SeekHole(data)
		}
		if err != nil {
			return nil, err
		}
		for page := data / PageSize; page*PageSize < off; page++ {
			all[page] = true
		}
	}
	var ranges []Range
	for _, page := range slices.Sorted(maps.Keys(all)) {
		r := Range{page * PageSize, min(PageSize, p.size-page*PageSize)}
		if n := len(ranges); n > 0 && ranges[n-1].Off+ranges[n-1].Len == r.Off {
			ranges[n-1].Len += r.Len
		} else {
			ranges = append(ranges, r)
		}
	}
	return ranges, nil
}
