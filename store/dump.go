package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// dumpBytes is the number of bytes that a line of Dump shows of what is longer.
const dumpBytes = 24

// Dump writes what the store's file holds as text, one line for each field or
// structure: its offset, its bytes in hex, the longer ones shortened, and what
// they mean. It goes through both superblocks, the log, the index, the headers of
// frames in the order of their numbers, and the space that none of them uses; the
// payloads of frames are not read. Damage gets a line of its own and is no error.
// Writes to the store wait meanwhile.
func (s *Store) Dump(w io.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return os.ErrClosed
	}
	d := &dumper{s: s, w: bufio.NewWriter(w)}
	for _, part := range []func() error{d.superblocks, d.log, d.nodes, d.frames, d.free} {
		if err := firstError(part(), d.err); err != nil {
			return fmt.Errorf("dump %s: %w", s.Path(), err)
		}
	}
	if err := d.w.Flush(); err != nil {
		return fmt.Errorf("dump %s: %w", s.Path(), err)
	}
	return nil
}

// A dumper writes the lines of Dump. The store's mu is held.
type dumper struct {
	s    *Store
	w    *bufio.Writer
	err  error    // of the first write that failed
	used []extent // of nodes, frames and log blocks
}

// line writes one line about the bytes b at off.
func (d *dumper) line(off int64, b []byte, format string, args ...any) {
	if d.err != nil {
		return
	}
	more := ""
	if len(b) > dumpBytes {
		b, more = b[:dumpBytes], ".."
	}
	_, d.err = fmt.Fprintf(d.w, "%#012x  %-*s  %s\n", off, 2*dumpBytes+2, fmt.Sprintf("%x%s", b, more), fmt.Sprintf(format, args...))
}

// fields writes a line for each of the fields of b, which lies at off.
func (d *dumper) fields(fields []dumpField, b []byte, off int64) {
	for _, f := range fields {
		field := b[f.off : f.off+f.len]
		d.line(off+int64(f.off), field, "  %s: %s", f.name, f.show(field))
	}
}

// damage writes a line about err if it is damage, and returns it otherwise.
func (d *dumper) damage(err error) error {
	var bad *DamageError
	if !errors.As(err, &bad) {
		return err
	}
	d.line(bad.Off, nil, "DAMAGED %s: %s", bad.Part, bad.Detail)
	return nil
}

// superblocks dumps both slots, whatever is in them.
func (d *dumper) superblocks() error {
	size, err := d.s.d.Size()
	if err != nil {
		return err
	}
	for i := range int64(2) {
		var b [slotLen]byte
		off := i * slotLen
		if _, err := d.s.d.ReadAt(b[:], off); err != nil {
			return d.damage(readError(err, "superblock", off))
		}
		if err := d.superblock(b[:], off, size); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) superblock(b []byte, off, fileSize int64) error {
	sb, err := decodeSuperblock(b, off, fileSize)
	switch {
	case errors.Is(err, ErrNotStore):
		d.line(off, b[:len(magic)], "superblock: not written")
		return nil
	case err == nil && off == int64(d.s.slot)*slotLen:
		d.line(off, nil, "superblock of generation %d, in use", sb.gen)
	case err == nil:
		d.line(off, nil, "superblock of generation %d", sb.gen)
	case errors.Is(err, ErrVersion):
		d.line(off, nil, "superblock: %v", err)
	default:
		if err := d.damage(err); err != nil {
			return err
		}
	}
	d.fields(slotFields, b, off)
	if err == nil && sb.inline != nil {
		d.line(off+slotHeadLen, sb.inline, "  inline data: frame 0 as %v, %d bytes hold %d", sb.inlineKind, len(sb.inline), sb.inlinePlain)
	}
	return nil
}

// log dumps the blocks that follow the superblock in use.
func (d *dumper) log() error {
	s := d.s
	seed := s.sb.logSeed
	for _, off := range s.logBlocks {
		d.used = append(d.used, extent{off, logBlockLen})
		var b [logBlockLen]byte
		if _, err := s.d.ReadAt(b[:], off); err != nil {
			return d.damage(readError(err, "log", off))
		}
		l, ok := decodeLogBlock(b[:], seed, s.idSum)
		if !ok {
			return d.damage(damagef("log", off, "no block found that begins with seed %#x", seed))
		}
		seed = l.nextSeed
		d.logBlock(b[:], off, l)
	}
	d.line(s.logNext, nil, "log: room for the next block, with seed %#x", seed)
	return nil
}

func (d *dumper) logBlock(b []byte, off int64, l logBlock) {
	last := ""
	if l.end {
		last = ", the last of its commit"
	}
	d.line(off, b[:logHeadLen], "log block of generation %d%s", l.gen, last)
	d.fields(logFields, b, off)
	for i, op := range l.ops {
		at := logHeadLen + i*logOpLen
		field := b[at : at+logOpLen]
		if op.code == opClear {
			d.line(off+int64(at), field, "  %d frames from %d on: holes", op.arg.place, op.frame)
			continue
		}
		d.line(off+int64(at), field, "  frame %d: %v", op.frame, op.arg)
	}
}

// nodes dumps the index as it is on disk, children before their parents.
func (d *dumper) nodes() error {
	s := d.s
	err := s.idx.nodes(func(first int64, e entry) error {
		if d.err != nil {
			return d.err
		}
		if err := d.node(first, e); err != nil {
			return d.damage(err)
		}
		d.used = append(d.used, e.extent())
		return nil
	})
	return d.damage(err)
}

func (d *dumper) node(first int64, e entry) error {
	payload, err := d.s.readNode(e, first)
	if err != nil {
		return err
	}
	level := int(e.kind() - kindNode)
	d.frameHead(e, first, fmt.Sprintf("index node of level %d, from frame %d on, %d entries", level, first, len(payload)/entryLen))
	for at := 0; at+entryLen <= len(payload); at += entryLen {
		b := payload[at : at+entryLen]
		n := first + int64(at/entryLen)*levelSpan(level)
		if k := getEntry(b); k != (entry{}) {
			d.line(e.off()+frameHeadLen+int64(at), b, "  from frame %d on: %v", n, k)
		}
	}
	return nil
}

// frames dumps the headers of all frames, the log's included.
func (d *dumper) frames() error {
	s := d.s
	next, end := int64(0), s.frameCount(s.size)
	for next < end {
		err := s.idx.scan(next, end, func(n int64, e entry) bool {
			d.frame(n, e)
			return d.err == nil
		})
		next = end
		var bad *DamageError
		if errors.As(err, &bad) && bad.Plain.Len > 0 {
			next = s.frameOf(bad.Plain.Off + bad.Plain.Len)
		}
		if err := d.damage(err); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) frame(n int64, e entry) {
	if err := checkFrameEntry(e, n, d.s.frameSize, maxFileSize); err != nil {
		d.err = firstError(d.err, d.damage(err))
		return
	}
	if e.onDisk() {
		d.used = append(d.used, e.extent())
		d.frameHead(e, n, fmt.Sprintf("frame %d", n))
	}
}

// frameHead dumps the header of the frame or node that e names.
func (d *dumper) frameHead(e entry, n int64, what string) {
	var b [frameHeadLen]byte
	if _, err := d.s.d.ReadAt(b[:], e.off()); err != nil {
		d.err = firstError(d.err, d.damage(readError(err, framePart(e.kind(), n), e.off())))
		return
	}
	h, ok := getFrameHead(b[:])
	d.line(e.off(), b[:], "%s: %v, %d bytes hold %d, generation %d, checksum %#08x", what, h.kind, h.payload, e.plain(), h.gen, h.sum)
	if !ok || h.kind != e.kind() || h.frame != n || h.payload != e.payload() || h.sum != e.sum() {
		d.line(e.off(), nil, "DAMAGED %s: the header is not that of %v", what, e)
	}
}

// free dumps the space between everything that was dumped before.
func (d *dumper) free() error {
	size, err := d.s.d.Size()
	if err != nil {
		return err
	}
	space, err := newAllocator(dataStart, d.used)
	if err != nil {
		return d.damage(err)
	}
	space.holes(unit, func(e extent) bool {
		d.line(e.off, nil, "%d bytes free", e.len)
		return d.err == nil
	})
	if end := space.end(); end < size {
		d.line(end, nil, "%d bytes free", size-end)
	}
	d.line(size, nil, "end of file")
	return nil
}

// String says what an entry names.
func (e entry) String() string {
	if !e.onDisk() {
		return e.kind().String()
	}
	return fmt.Sprintf("%v at %#x, %d bytes hold %d, checksum %#08x", e.kind(), e.off(), e.payload(), e.plain(), e.sum())
}
