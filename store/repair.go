package store

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"lazyfs/codec"
)

// A Loss is what Repair could not get back, or can't vouch for.
type Loss struct {
	Plain Range // empty when it concerns the store as a whole
	// Kept says that the new store has bytes there which were found without an
	// index, and may be older than those of the newest commit; Cause tells when
	// they agree with the number and the length of those. Where nothing is
	// kept the new store has a hole.
	Kept  bool
	Cause string // what is damaged, and how
}

// Repair writes a new store into the empty file dst with all that can be read of
// the damaged store in src, durably. Frames are found through the index; where a
// node of it is lost, by scanning the file for what describes itself. Where both
// superblocks are lost the frame size and the plain size are guessed from what is
// found, and the log is lost, too: what it made zeros may be as before. report is
// called for each loss, in the order of plain offsets, from one goroutine; progress,
// when not nil, now and then with the bytes dealt with and how many are to be.
//
// Both files stay the caller's. src is opened for reading at least, and is not
// changed; a writer that has it gives ErrLocked, a later version of the format
// ErrVersion, and a file in which nothing of a store is found ErrNotStore. dst is
// no store when Repair fails.
func Repair(ctx context.Context, dst, src *os.File, report func(Loss), progress func(done, total int64)) (Info, error) {
	r := &salvage{ctx: ctx, d: fileDisk{src}, report: report, progress: progress}
	info, err := r.runLocked(dst, src)
	if err != nil {
		return Info{}, during("repair", src.Name(), err)
	}
	return info, nil
}

// A salvage is one run of Repair.
type salvage struct {
	ctx      context.Context
	d        disk
	fileSize int64
	report   func(Loss)
	progress func(done, total int64)
	done     int64 // bytes of the file that were scanned
	pending  Loss  // not reported yet: it may go on

	sb     superblock // what is known, or guessed
	known  bool       // a superblock can be read
	sure   bool       // it is the newest
	idSum  uint32
	size   int64  // plain bytes
	gen    uint64 // of the newest commit
	found  *found // nil as long as the file need not be scanned
	set    map[int64]piece
	clear  spanSet
	exact  bool // index and scan give as many frames and bytes as the superblock counts
	frames int64
	stored int64
	last   piece // the one with the highest number
}

func (r *salvage) runLocked(dst, src *os.File) (Info, error) {
	switch err := lockWriter(src); {
	case err == nil:
		defer unlockWriter(src)
	case !errors.Is(err, errNoLocks):
		return Info{}, err
	}
	return r.run(dst)
}

func (r *salvage) run(dst *os.File) (Info, error) {
	var err error
	if r.fileSize, err = r.d.Size(); err != nil {
		return Info{}, err
	}
	if err := r.findState(); err != nil {
		return Info{}, err
	}
	if err := r.survey(); err != nil {
		return Info{}, err
	}
	sb, err := newSuperblock(CreateOptions{Codec: r.sb.codec, Level: int(r.sb.level), FrameSize: r.sb.frameSize()})
	if err != nil {
		return Info{}, err
	}
	w, err := newBuilder(dst, sb)
	if err != nil {
		return Info{}, err
	}
	if err := r.copyPieces(w); err != nil {
		return Info{}, firstError(err, w.s.Discard())
	}
	w.s.inline = r.inlineFrame()
	r.lose(Loss{}) // Reports the one before.
	return w.finish(r.size)
}

// findState finds the newest generation: a superblock and the log behind it, or
// what a scan makes probable.
func (r *salvage) findState() error {
	if err := r.readSlots(); err != nil {
		return err
	}
	if !r.known {
		return r.guess()
	}
	r.idSum = crc32.Update(0, castagnoli, r.sb.id[:])
	r.size, r.gen = r.sb.size, r.sb.gen
	commits, err := readLog(r.d, r.fileSize, &r.sb, r.idSum)
	if err != nil {
		r.lose(Loss{Kept: true, Cause: fmt.Sprintf("log: %v; what was written last may be missing", err)})
	}
	r.takeLog(commits)
	if r.sure {
		return nil
	}
	// The other superblock may have been the newer one.
	if err := r.scan(); err != nil {
		return err
	}
	if r.found.gen > r.gen {
		return r.guess()
	}
	return nil
}

// readSlots chooses the newer of the superblocks that can be read. The file may be
// shorter than they say.
func (r *salvage) readSlots() error {
	var b [dataStart]byte
	r.readAround(b[:], 0)
	var slots [2]superblock
	var errs [2]error
	for i := range slots {
		slots[i], errs[i] = decodeSuperblock(b[i*slotLen:][:slotLen], int64(i*slotLen), maxFileSize)
		if errors.Is(errs[i], ErrVersion) {
			return errs[i]
		}
	}
	switch {
	case errs[0] == nil && errs[1] == nil:
		r.sb, r.sure = slots[newerSlot(&slots[0], &slots[1])], true
	case errs[0] == nil:
		r.sb, r.sure = slots[0], slots[0].copied
	case errs[1] == nil:
		r.sb, r.sure = slots[1], slots[1].copied
	default:
		return nil
	}
	r.known = true
	return nil
}

// takeLog adds what the log changes.
func (r *salvage) takeLog(commits []commit) {
	r.set = map[int64]piece{}
	if len(commits) == 0 {
		return
	}
	cleared, set := netOps(commits)
	r.clear = cleared
	for _, op := range set {
		r.set[op.frame] = indexed(op.frame, op.arg)
	}
	last := commits[len(commits)-1]
	r.size, r.gen = last.size, last.gen
	r.sb.inline = nil // A log follows only where frame 0 lies outside.
}

// guess makes up for a lost superblock.
func (r *salvage) guess() error {
	if err := r.scan(); err != nil {
		return err
	}
	if !slices.ContainsFunc(slices.Concat(r.found.frames, r.found.nodes), func(p piece) bool { return !p.bad }) {
		return fmt.Errorf("%w: no superblock, no frame and no index node is whole", ErrNotStore)
	}
	if !r.known {
		r.guessShape()
	}
	r.known, r.sb.inline = false, nil
	r.set, r.clear = map[int64]piece{}, spanSet{}
	for _, p := range r.found.frames {
		if p.gen > r.found.gen { // Written after the index.
			r.set[p.number] = p
		}
	}
	r.guessRoot()
	return nil
}

// guessRoot takes the newest node for the root of the index, which is rewritten by
// every checkpoint, if everything found agrees; otherwise the root is lost.
func (r *salvage) guessRoot() {
	r.sb.depth, r.sb.root = 1, entry{}
	var root piece
	for _, n := range r.found.nodes { // By level: the highest comes last.
		r.sb.depth = max(r.sb.depth, uint8(n.kind-kindNode)+2)
		if n.gen >= root.gen {
			root = n
		}
	}
	for _, p := range r.found.frames {
		r.sb.depth = max(r.sb.depth, uint8(depthFor(p.number)))
	}
	newer := slices.ContainsFunc(r.found.frames, func(p piece) bool { return p.gen > root.gen })
	if root.kind != kindNode+kind(r.sb.depth-2) || root.number != 0 || root.bad || newer {
		return
	}
	root.plain = root.payload
	r.sb.depth, r.sb.root = r.sb.depth-1, root.entry()
}

// guessShape takes the frame size and the codec from the frames.
func (r *salvage) guessShape() {
	const looks = 64
	kinds := [kindGzip + 1]int{kindLZ4: 1}
	longest := MinFrameSize
	b := make([]byte, MaxFrameSize)
	seen := 0
	for _, p := range r.found.frames {
		if p.bad {
			continue
		}
		kinds[p.kind]++
		if seen < looks {
			seen++
			if plain, err := r.read(p, b); err == nil {
				longest = max(longest, plain)
			}
		}
	}
	for longest > 1<<r.sb.frameShift {
		r.sb.frameShift++
	}
	r.sb.codec = codec.LZ4
	for k, n := range kinds {
		if kind(k) != kindRaw && n > kinds[r.sb.codec] {
			r.sb.codec = codec.ID(k)
		}
	}
}

// lose notes a loss, and reports the one before unless this one continues it.
func (r *salvage) lose(l Loss) {
	p := &r.pending
	if p.Cause == l.Cause && p.Kept == l.Kept && p.Plain.Off+p.Plain.Len == l.Plain.Off {
		p.Plain.Len += l.Plain.Len
		return
	}
	if p.Cause != "" {
		r.report(*p)
	}
	*p = l
}

// loseFrames reports the loss of frames.
func (r *salvage) loseFrames(from, to int64, kept bool, cause string) {
	// The shift of a number beyond the size may overflow.
	count := r.frameCount()
	at := min(from, count) << r.sb.frameShift
	if end := min(min(to, count)<<r.sb.frameShift, r.size); at < end {
		r.lose(Loss{Plain: Range{at, end - at}, Kept: kept, Cause: cause})
	}
}

// frameCount is the number of frames that hold the plain bytes.
func (r *salvage) frameCount() int64 {
	return (r.size + int64(r.sb.frameSize()) - 1) >> r.sb.frameShift
}

func (r *salvage) tell(plain int64) {
	if r.progress != nil {
		total := r.size
		if r.found != nil {
			total += r.fileSize
		}
		r.progress(min(r.done+plain, total), total)
	}
}
