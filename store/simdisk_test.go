package store

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// simDisk is a disk in memory that records what is done to it, so that tests can
// build every state that a power cut may leave.
type simDisk struct {
	mu      sync.Mutex
	now     []byte         // what reads see
	durable []byte         // what survives a power cut for certain
	pending []simOp        // done since the last Datasync
	ops     int            // all operations
	counts  map[string]int // of them, by kind
	after   func()         // called after each operation, mu held
	fail    func(n int) error
	short   bool // a write that fails was done in part
	full    bool // the file takes no more room than it has

	reserved int64 // it has room up to here
}

type simOp struct {
	what string // write, truncate or punch
	off  int64
	data []byte // of a write
	n    int64  // of a punch
}

// diskWith is a disk that holds image, which stays the caller's, durably.
func diskWith(image []byte) *simDisk {
	return &simDisk{now: bytes.Clone(image), durable: bytes.Clone(image)}
}

func (d *simDisk) do(op simOp) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failure(); err != nil {
		if d.short && op.what == "write" {
			op.data = op.data[:len(op.data)/2]
			d.now = op.apply(d.now)
			d.pending = append(d.pending, op)
		}
		return err
	}
	switch {
	case op.what == "write" && d.lacks(op.off+int64(len(op.data))):
		return unix.ENOSPC
	case op.what == "truncate":
		d.reserved = min(d.reserved, op.off)
	}
	d.now = op.apply(d.now)
	d.pending = append(d.pending, op)
	d.done(op.what)
	return nil
}

// lacks reports whether there is no room up to end. The last block is whole.
func (d *simDisk) lacks(end int64) bool {
	return d.full && end > roundUp(max(int64(len(d.now)), d.reserved), blockLen)
}

func (d *simDisk) setFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// failure counts an operation if it is to fail.
func (d *simDisk) failure() error {
	if d.fail == nil {
		return nil
	}
	err := d.fail(d.ops)
	if err != nil {
		d.ops++
	}
	return err
}

func (d *simDisk) done(what string) {
	d.ops++
	if d.counts == nil {
		d.counts = map[string]int{}
	}
	d.counts[what]++
	if d.after != nil {
		d.after()
	}
}

// apply does the operation to an image.
func (op simOp) apply(b []byte) []byte {
	switch op.what {
	case "write":
		if end := op.off + int64(len(op.data)); end > int64(len(b)) && len(op.data) > 0 {
			b = append(b, make([]byte, end-int64(len(b)))...)
		}
		copy(b[min(op.off, int64(len(b))):], op.data)
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
	err := d.do(simOp{what: "write", off: off, data: bytes.Clone(p)})
	switch {
	case err == nil:
		return len(p), nil
	case d.short:
		return len(p) / 2, err
	}
	return 0, err
}

func (d *simDisk) Truncate(size int64) error { return d.do(simOp{what: "truncate", off: size}) }
func (d *simDisk) Punch(off, n int64) error  { return d.do(simOp{what: "punch", off: off, n: n}) }

// Reserve leaves no trace in what a power cut leaves.
func (d *simDisk) Reserve(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failure(); err != nil {
		return err
	}
	if d.lacks(off + n) {
		return unix.ENOSPC
	}
	d.reserved = max(d.reserved, off+n)
	d.ops++
	return nil
}

func (d *simDisk) Size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.now)), nil
}

func (d *simDisk) Blocks() (int64, error) { return d.Size() }

// Datasync makes what is pending durable. When it fails two thirds of that are lost,
// but reads go on seeing it, and later calls succeed: as Linux has it.
func (d *simDisk) Datasync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	pending, err := d.pending, d.failure()
	d.pending = nil
	for i, op := range pending {
		if err == nil || (d.ops+i)%3 == 0 {
			d.durable = op.apply(d.durable)
		}
	}
	if err == nil {
		d.done("sync")
	}
	return err
}

func (d *simDisk) Forget(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending) > 0 {
		return // Some of that is dirty in memory, and stays there.
	}
	to := min(off+n, int64(len(d.now)))
	if off < to {
		n := copy(d.now[off:to], d.durable[min(off, int64(len(d.durable))):])
		clear(d.now[off+int64(n) : to])
	}
}

// A crash says what a power cut did to the pending operations: the order in which
// the disk did them, and of each which of its sectors were done. Punches and
// truncations have one.
type crash struct {
	turn []int
	done [][]bool // by position in pending
}

const sector = 512

// sectors are how many pieces of an operation can be done without the others.
func (op simOp) sectors() int {
	if op.what != "write" {
		return 1
	}
	first, last := op.off/sector, (op.off+int64(len(op.data))-1)/sector
	return int(last - first + 1)
}

// piece is one sector of an operation.
func (op simOp) piece(i int) simOp {
	if op.what != "write" {
		return op
	}
	from := max(op.off, (op.off/sector+int64(i))*sector)
	to := min(op.off+int64(len(op.data)), (op.off/sector+int64(i)+1)*sector)
	return simOp{what: "write", off: from, data: op.data[from-op.off : to-op.off]}
}

// image builds what the disk holds after the crash.
func (d *simDisk) image(c crash) []byte {
	b := bytes.Clone(d.durable)
	for _, i := range c.turn {
		if !slices.Contains(c.done[i], false) {
			b = d.pending[i].apply(b)
			continue
		}
		for at, done := range c.done[i] {
			if done {
				b = d.pending[i].piece(at).apply(b)
			}
		}
	}
	return b
}

// The ways in which a power cut treats an operation.
const (
	dropped = iota
	kept
	torn
)

// fate chooses sectors of an operation.
func (op simOp) fate(how int, r *rand.Rand) []bool {
	done := make([]bool, op.sectors())
	for i := range done {
		done[i] = how == kept || how == torn && op.what == "write" && r.IntN(2) == 0
	}
	return done
}

// untangle restores the order of operations that overlap: a disk keeps the order
// of writes to one sector, and a file system that of its own changes of size.
func (d *simDisk) untangle(turn []int) {
	for i := range turn {
		for j := i + 1; j < len(turn); j++ {
			if turn[i] > turn[j] && d.pending[turn[i]].touches(d.pending[turn[j]]) {
				turn[i], turn[j] = turn[j], turn[i]
			}
		}
	}
}

func (op simOp) span() (int64, int64) {
	switch op.what {
	case "write":
		return op.off / sector * sector, op.off + int64(len(op.data)) + sector
	case "punch":
		return op.off, op.off + op.n
	}
	return 0, 1 << 62
}

func (op simOp) touches(other simOp) bool {
	a, b := op.span()
	c, d := other.span()
	return a < d && c < b
}

// describe lists what the crash did with each pending operation.
func (d *simDisk) describe(c crash) string {
	var b strings.Builder
	for _, i := range c.turn {
		op, done := d.pending[i], 0
		for _, yes := range c.done[i] {
			if yes {
				done++
			}
		}
		fmt.Fprintf(&b, "\n  %s %#x, %d bytes: %d of %d sectors done", op.what, op.off, max(int64(len(op.data)), op.n), done, len(c.done[i]))
	}
	return b.String()
}
