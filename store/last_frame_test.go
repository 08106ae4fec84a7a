package store

import (
	"bytes"
	"testing"
)

// Of a whole frame that replaces a shorter last one nothing is kept behind the end
// of the store, where it would show when that grows, be it before the frame is
// written.
func TestLastFrameIsCut(t *testing.T) {
	long := bytes.Repeat([]byte{0xff}, MinFrameSize)
	for _, size := range []int{5, 3000, 5*MinFrameSize + 3000} {
		last := int64(size / MinFrameSize)
		for how, write := range map[string]func(s *Store) error{
			"WriteFrame": func(s *Store) error { return s.WriteFrame(last, long) },
			"FrameWriter": func(s *Store) error {
				w := s.NewFrameWriter()
				defer w.Close()
				return firstError(w.Add(last, long), w.Flush())
			},
			"FrameWriter of a store that grows": func(s *Store) error {
				w := s.NewFrameWriter()
				defer w.Close()
				return firstError(w.Add(last, long), s.Truncate(int64(size)+100), w.Flush())
			},
		} {
			d := &simDisk{}
			s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
			must(t, err)
			want := noise(size, 1)
			mustWrite(t, s, want, 0)
			must(t, s.Sync())
			must(t, write(s))
			for i := int(last) * MinFrameSize; i < size; i++ {
				want[i] = 0xff
			}
			want = append(want, make([]byte, s.Size()-int64(size))...)
			same(t, s, want)
			must(t, s.Sync())
			for _, d := range checked(t, s) {
				t.Errorf("%s, %d bytes: %v", how, size, d)
			}
			must(t, s.Truncate(2*int64(size)+MinFrameSize))
			grown := make([]byte, s.Size())
			copy(grown, want)
			same(t, s, grown)
		}
	}
}
