package uffdmap

import (
	"errors"
	"testing"
	"time"

	"lazyfs/store"
)

// A partSource has frames of 4096 bytes that all hold their number, or are zeros when
// that is a multiple of 3. It reads at most two at once, and not frame bad.
type partSource struct {
	store.Source
	bad int64
}

var errBad = errors.New("bad frame")

func (s partSource) FrameSize() int { return 4096 }

func (s partSource) ReadFrame(n int64, dst []byte) (zero bool, err error) {
	done, zeros, err := s.ReadFrames(n, dst[:4096])
	return done == 1 && zeros == 1, err
}

func (s partSource) ReadFrames(n int64, dst []byte) (done int, zeros uint64, err error) {
	for ; done < min(2, len(dst)/4096); done++ {
		switch at := n + int64(done); {
		case at == s.bad:
			return done, zeros, errBad
		case at%3 == 0:
			zeros |= 1 << done
		default:
			dst[done*4096] = byte(at)
		}
	}
	return done, zeros, nil
}

// oneSource is a partSource that reads frames one by one only.
type oneSource struct{ store.Source }

// However many frames a source reads at once, each comes to its place, and each that is
// zeros has its bit. What comes before a bad frame comes, and what takes too long is begun.
func TestReadFrames(t *testing.T) {
	for name, src := range map[string]store.Source{"parts": partSource{bad: 27}, "one by one": oneSource{partSource{bad: 27}}} {
		for _, c := range []struct {
			first, want int64
			until       time.Time
			err         error
		}{
			{first: 2, want: 13},
			{first: 20, want: 7, err: errBad},
			{first: 27, want: 0, err: errBad},
			{first: 5, want: 13, until: time.Now().Add(time.Hour)},
		} {
			dst := make([]byte, 13*4096)
			done, zeros, err := readFrames(src, c.first, dst, c.until)
			if int64(done) != c.want || err != c.err {
				t.Errorf("%s from %d on: %d frames, %v, want %d, %v", name, c.first, done, err, c.want, c.err)
			}
			for i := range done {
				n := c.first + int64(i)
				if zero := zeros>>i&1 != 0; zero != (n%3 == 0) || !zero && dst[i*4096] != byte(n) {
					t.Errorf("%s from %d on: frame %d holds %d, zero: %t", name, c.first, n, dst[i*4096], zero)
				}
			}
		}
		if done, _, err := readFrames(src, 1, make([]byte, 13*4096), time.Unix(1, 0)); done < 1 || done > 2 || err != nil {
			t.Errorf("%s, too late: %d frames, %v, want the first", name, done, err)
		}
	}
}
