package store

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
)

// simDisk is a disk in memory that records what is done to it, so that tests can
// build every state that a power cut may leave.
type simDisk struct {
	mu      sync.Mutex
	now     []byte  // what reads see
	durable []byte  // after the last Datasync
	pending []simOp // since then
	ops     int     // all operations
	after   func()  // called after each operation, mu held
	fail    func(n int) error
}

type simOp struct {
	what string // write, truncate or punch
	off  int64
	data []byte // of a write
	n    int64  // of a punch
}

func (d *simDisk) do(op simOp) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(d.ops); err != nil {
			d.ops++
			return err
		}
	}
	d.now = op.apply(d.now, len(op.data))
	d.pending = append(d.pending, op)
	d.done()
	return nil
}

func (d *simDisk) done() {
	d.ops++
	if d.after != nil {
		d.after()
	}
}

// apply does the operation to an image; of a write only the first n bytes.
func (op simOp) apply(b []byte, n int) []byte {
	switch op.what {
	case "write":
		if n == 0 {
			return b
		}
		if end := op.off + int64(n); end > int64(len(b)) {
			b = append(b, make([]byte, end-int64(len(b)))...)
		}
		copy(b[op.off:], op.data[:n])
	case "truncate":
		if op.off <= int64(len(b)) {
			return b[:op.off:op.off]
		}
		b = append(b, make([]byte, op.off-int64(len(b)))...)
	case "punch":
		if op.off < int64(len(b)) {
			clear(b[op.off:min(op.off+op.n, int64(len(b)))])
		}
	}
	return b
}

func (d *simDisk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= int64(len(d.now)) {
		return 0, io.EOF
	}
	n := copy(p, d.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *simDisk) WriteAt(p []byte, off int64) (int, error) {
	if err := d.do(simOp{what: "write", off: off, data: append([]byte(nil), p...)}); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *simDisk) Truncate(size int64) error { return d.do(simOp{what: "truncate", off: size}) }
func (d *simDisk) Punch(off, n int64) error  { return d.do(simOp{what: "punch", off: off, n: n}) }

// Reserve leaves no trace in what a power cut leaves.
func (d *simDisk) Reserve(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	if d.fail != nil {
		return d.fail(d.ops - 1)
	}
	return nil
}

func (d *simDisk) Size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.now)), nil
}

func (d *simDisk) Datasync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(d.ops); err != nil {
			d.ops++
			return err
		}
	}
	d.durable = append([]byte(nil), d.now...)
	d.pending = nil
	d.done()
	return nil
}

// A crash says what a power cut did to each pending operation: kept, dropped, or,
// of a write, torn: only some of its sectors were written.
type crash []int8

const (
	dropped int8 = iota
	kept
	torn
)

func (c crash) String() string { return fmt.Sprint([]int8(c)) }

// image builds what the disk holds after the crash. The pending operations are
// done in the order of turn, since the disk was free to choose one.
func (d *simDisk) image(c crash, turn []int, r *rand.Rand) []byte {
	b := append([]byte(nil), d.durable...)
	for _, i := range turn {
		op := d.pending[i]
		switch c[i] {
		case kept:
			b = op.apply(b, len(op.data))
		case torn:
			b = op.tear(b, r)
		}
	}
	return b
}

const sector = 512

// tear writes some of the sectors of a write.
func (op simOp) tear(b []byte, r *rand.Rand) []byte {
	if op.what != "write" {
		return op.apply(b, 0)
	}
	for at := 0; at < len(op.data); {
		next := min(len(op.data), at+sector-int((op.off+int64(at))%sector))
		if r.IntN(2) == 0 {
			piece := simOp{what: "write", off: op.off + int64(at), data: op.data[at:next]}
			b = piece.apply(b, next-at)
		}
		at = next
	}
	return b
}
