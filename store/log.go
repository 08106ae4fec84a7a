package store

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
)

// Sizes of the log (FORMAT §5).
const (
	logBlockLen  = 4096
	logHeadLen   = 64
	logOpLen     = 24
	opsPerBlock  = (logBlockLen - logHeadLen) / logOpLen
	maxLogBlocks = 1024       // a checkpoint comes before the log is longer
	maxLogLeaves = 2048       // or sets frames of more leaves, which bounds the memory that opening takes
	logMagic     = 0x676c5a4c // "LZlg"
	logFlagEnd   = 1          // the last block of its commit
)

// An opCode says what an operation of the log does.
type opCode uint8

const (
	opSet   opCode = 1 // the frame's entry becomes arg
	opClear opCode = 2 // arg.place frames from the frame on become holes
)

type logOp struct {
	code  opCode
	frame int64
	arg   entry
}

// frames are those that the operation concerns.
func (op logOp) frames() span {
	if op.code == opClear {
		return span{op.frame, op.frame + int64(op.arg.place)}
	}
	return span{op.frame, op.frame + 1}
}

// A logBlock is one block of a commit record. The blocks of the log are a chain:
// each says where the next one will be and what it must begin with, so that
// bytes left over from an older log are never taken for part of this one.
type logBlock struct {
	seed     uint64
	gen      uint64
	next     int64
	nextSeed uint64
	size     int64  // plain size after the commit
	durable  uint64 // a generation known to have survived, at the time of writing
	end      bool
	ops      []logOp
}

func (l *logBlock) encode(b []byte, idSum uint32) {
	clear(b)
	le := binary.LittleEndian
	le.PutUint32(b, logMagic)
	le.PutUint64(b[8:], l.seed)
	le.PutUint64(b[16:], l.gen)
	le.PutUint64(b[24:], uint64(l.next))
	le.PutUint64(b[32:], l.nextSeed)
	le.PutUint64(b[40:], uint64(l.size))
	le.PutUint64(b[48:], l.durable)
	le.PutUint16(b[56:], uint16(len(l.ops)))
	if l.end {
		b[58] = logFlagEnd
	}
	for i, op := range l.ops {
		p := b[logHeadLen+i*logOpLen:]
		le.PutUint64(p, uint64(op.frame)|uint64(op.code)<<56)
		putEntry(p[8:], op.arg)
	}
	le.PutUint32(b[4:], logSum(b, idSum))
}

func logSum(b []byte, idSum uint32) uint32 {
	return crc32.Update(crc32.Update(idSum, castagnoli, b[:4]), castagnoli, b[8:])
}

// decodeLogBlock decodes b if it is the block that seed announces. Anything else
// is no damage: it is where the log ends.
func decodeLogBlock(b []byte, seed uint64, idSum uint32) (logBlock, bool) {
	le := binary.LittleEndian
	if le.Uint32(b) != logMagic || le.Uint64(b[8:]) != seed || le.Uint32(b[4:]) != logSum(b, idSum) {
		return logBlock{}, false
	}
	l := logBlock{
		seed: seed, gen: le.Uint64(b[16:]),
		next: int64(le.Uint64(b[24:])), nextSeed: le.Uint64(b[32:]),
		size: int64(le.Uint64(b[40:])), durable: le.Uint64(b[48:]),
		end: b[58]&logFlagEnd != 0,
	}
	n := int(le.Uint16(b[56:]))
	if n > opsPerBlock || l.next < dataStart || l.next > maxFileSize || l.next%unit != 0 || l.size < 0 || l.size > MaxSize {
		return logBlock{}, false
	}
	for i := range n {
		p := b[logHeadLen+i*logOpLen:]
		w := le.Uint64(p)
		l.ops = append(l.ops, logOp{opCode(w >> 56), int64(w & maxFrameNumber), getEntry(p[8:])})
	}
	return l, true
}

// leaves adds the leaves of which the block sets frames to seen, and reports
// whether a log may set frames of so many.
func (l *logBlock) leaves(seen map[int64]struct{}) bool {
	for _, op := range l.ops {
		if op.code == opSet {
			seen[op.frame>>fanoutBits] = struct{}{}
		}
	}
	return len(seen) <= maxLogLeaves
}

// A commit is one generation read from the log.
type commit struct {
	gen     uint64
	size    int64
	durable uint64
	ops     []logOp
	blocks  []int64 // where its log blocks lie
	next    int64
	seed    uint64 // of the next block
}

// readLog reads the commits that follow the superblock sb, up to the first that
// is not whole (FORMAT §5). A commit that may not have been durable counts only
// if all its frames are as it says. Errors are failed reads: the commits are those
// before a block that can't be read, and where a frame can't be all of them count.
func readLog(d disk, fileSize int64, sb *superblock, idSum uint32) ([]commit, error) {
	commits, err := scanLog(d, fileSize, sb, idSum)
	t := logTrimmer{d: d, frameSize: sb.frameSize(), idSum: idSum}
	commits, failed := t.trim(commits)
	return commits, firstError(err, failed)
}

// scanLog is readLog but for the frames, which it does not look at.
func scanLog(d disk, fileSize int64, sb *superblock, idSum uint32) ([]commit, error) {
	if !sb.mayHaveLog(fileSize) {
		return nil, nil
	}
	var (
		commits []commit
		c       commit
		at      = sb.logOff
		seed    = sb.logSeed
		gen     = sb.gen
		leaves  = map[int64]struct{}{}
		buf     = getBuffer(logBlockLen)
		b       = buf.b
	)
	defer putBuffer(buf)
	for n := 0; n < maxLogBlocks && at+logBlockLen <= fileSize; n++ {
		got, err := d.ReadAt(b, at)
		if got < len(b) && err == io.EOF {
			break // A writer has cut the file since it had fileSize bytes.
		}
		if err != nil {
			return commits, readError(err, "log", at)
		}
		l, ok := decodeLogBlock(b, seed, idSum)
		if !ok || l.gen != gen+1 || l.gen > maxGeneration || !l.leaves(leaves) {
			break
		}
		c.ops = append(c.ops, l.ops...)
		c.blocks = append(c.blocks, at)
		at, seed = l.next, l.nextSeed
		if !l.end {
			continue
		}
		c.gen, c.size, c.durable, c.next, c.seed = l.gen, l.size, l.durable, l.next, l.nextSeed
		commits = append(commits, c)
		c, gen = commit{}, l.gen
	}
	return commits, nil
}

// A logTrimmer finds the newest commit of a log whose frames are all there.
type logTrimmer struct {
	d         disk
	frameSize int
	idSum     uint32
	left      int64 // bytes of frames that may yet be looked at: they share none
}

// trim returns the commits up to the newest whole one. Frames that a later commit
// replaced do not count: their space may be in use again, which means that the
// later one had become durable.
func (t *logTrimmer) trim(commits []commit) ([]commit, error) {
	var durable uint64
	for i, c := range commits {
		if !t.valid(c) {
			commits = commits[:i]
			break
		}
		durable = max(durable, c.durable)
	}
	if len(commits) == 0 {
		return nil, nil
	}
	size, err := t.d.Size()
	if err != nil {
		return commits, err
	}
	t.left = size
	for {
		bad, err := t.newestBad(commits, durable)
		if err != nil || bad < 0 {
			return commits, err
		}
		// What makes this one bad makes all later ones bad, too.
		commits = commits[:bad]
	}
}

// valid checks what a commit says before it is believed.
func (t *logTrimmer) valid(c commit) bool {
	for _, op := range c.ops {
		switch {
		case op.code == opClear && op.arg.place <= maxFrameNumber+1 && op.frame+int64(op.arg.place) <= maxFrameNumber+1:
		case op.code == opSet && checkFrameEntry(op.arg, op.frame, t.frameSize, maxFileSize) == nil:
		default:
			return false
		}
	}
	return true
}

// newestBad finds the newest of the commits after generation durable that names a
// frame which no later one replaces and which is not as it says; -1 if none does.
func (t *logTrimmer) newestBad(commits []commit, durable uint64) (int, error) {
	var replaced spanSet
	b := getBuffer(frameHeadLen + t.frameSize)
	defer putBuffer(b)
	for i := len(commits) - 1; i >= 0 && commits[i].gen > durable; i-- {
		for _, op := range slices.Backward(commits[i].ops) {
			r := op.frames()
			if op.code == opSet && !replaced.has(op.frame) {
				if ok, err := t.whole(op.frame, op.arg, b.b); err != nil || !ok {
					return i, err
				}
			}
			replaced.add(r)
		}
	}
	return -1, nil
}

// whole reports whether the frame that e names is as it says. Of frames that are longer
// than the file, all that were looked at together, it isn't: a file may be made of frames
// that share bytes, which take for ever.
func (t *logTrimmer) whole(n int64, e entry, buf []byte) (bool, error) {
	if !e.onDisk() {
		return true, nil
	}
	b := buf[:e.stored()]
	if t.left -= int64(len(b)); t.left < 0 {
		return false, nil
	}
	got, err := t.d.ReadAt(b, e.off())
	if got < len(b) && err != io.EOF {
		return false, readError(err, framePart(e.kind(), n), e.off())
	}
	return got == len(b) && verifyFrame(b, e, n, t.idSum) == nil, nil
}

// netOps reduces a log to what is left of it: frames that became holes, and the
// entries that were set last.
func netOps(commits []commit) (cleared spanSet, set []logOp) {
	var replaced spanSet
	for _, c := range slices.Backward(commits) {
		for _, op := range slices.Backward(c.ops) {
			r := op.frames()
			switch {
			case op.code == opClear:
				cleared.add(r)
			case !replaced.has(op.frame):
				set = append(set, op)
			}
			replaced.add(r)
		}
	}
	return cleared, set
}
