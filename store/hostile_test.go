package store

import (
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// A hostile store has right checksums and says what no writer says.
type hostile struct {
	name  string
	forge *forge
	frame int64 // one that must not read back
}

// oneFrame is a store whose frame 0 has this kind and payload.
func oneFrame(k kind, payload []byte, plain int) *forge {
	f := newForge()
	e := f.count(f.put(k, 0, payload, plain))
	return f.leaf(e, f.frame(kindLZ4, 1, text(4096, "fine ")))
}

// oneEntry is a store whose frame 0 has an entry that was changed.
func oneEntry(change func(*entry)) *forge {
	f := newForge()
	e := f.frame(kindLZ4, 0, text(4096, "fine "))
	change(&e)
	return f.leaf(e)
}

// oneRoot is a store of two levels whose root is made by root.
func oneRoot(root func(f *forge, leaf entry) entry) *forge {
	f := newForge()
	leaf := f.node(0, 0, f.frame(kindLZ4, 0, text(4096, "fine ")))
	return f.root(1, root(f, leaf), 2048*4096)
}

func hostileFrames() []hostile {
	plain := text(4096, "words ")
	long := make([]byte, 1<<20)
	var all []hostile
	for k := kindLZ4; k <= kindGzip; k++ {
		all = append(all,
			hostile{fmt.Sprintf("%v decodes to less", k), oneFrame(k, encoded(k, plain[:4000]), 4096), 0},
			hostile{fmt.Sprintf("%v decodes to more", k), oneFrame(k, encoded(k, plain), 4000), 0},
			hostile{fmt.Sprintf("%v is a bomb", k), oneFrame(k, encoded(k, long)[:min(4096, len(encoded(k, long)))], 4096), 0},
			hostile{fmt.Sprintf("%v has rubbish", k), oneFrame(k, []byte("rubbish"), 4096), 0},
			hostile{fmt.Sprintf("%v has one byte", k), oneFrame(k, []byte{0xff}, 1), 0},
		)
	}
	return append(all,
		hostile{"raw has less", oneFrame(kindRaw, plain[:4000], 4096), 0},
		hostile{"raw has more", oneFrame(kindRaw, plain, 4000), 0},
		hostile{"frame is longer than frames", oneFrame(kindLZ4, encoded(kindLZ4, text(8192, "x")), 8192), 0},
		hostile{"payload is longer than frames", oneFrame(kindGzip, append(encoded(kindGzip, plain), make([]byte, 5000)...), 4096), 0},
		hostile{"header names another frame", newForgeWithHeader(), 0},
	)
}

// newForgeWithHeader is a store whose frames 0 and 1 were swapped.
func newForgeWithHeader() *forge {
	f := newForge()
	a, b := f.frame(kindLZ4, 0, text(4096, "a")), f.frame(kindLZ4, 1, text(4096, "b"))
	return f.leaf(b, a)
}

func hostileEntries() []hostile {
	var all []hostile
	for k := range 256 {
		switch kind(k) {
		case kindLZ4, kindHole, kindZero:
			continue
		}
		all = append(all, hostile{fmt.Sprintf("kind %d", k), oneEntry(func(e *entry) { e.info = e.info&^(0xff<<32) | uint64(k)<<32 }), 0},
			hostile{fmt.Sprintf("kind %d alone", k), oneEntry(func(e *entry) { *e = entry{info: uint64(k) << 32} }), 0})
	}
	return append(all,
		hostile{"zero with a place", oneEntry(func(e *entry) { e.info = uint64(kindZero) << 32 }), 0},
		hostile{"hole with a place", oneEntry(func(e *entry) { e.info = 0 }), 0},
		hostile{"reserved bits", oneEntry(func(e *entry) { e.info |= 1 << 63 }), 0},
		hostile{"frame in the superblock", oneEntry(func(e *entry) { e.place &= 1<<20 - 1 }), 0},
		hostile{"frame behind the end", oneEntry(func(e *entry) { e.place |= 1 << 40 }), 0},
		hostile{"frame at the last place", oneEntry(func(e *entry) { e.place = math.MaxUint64 }), 0},
		hostile{"other checksum", oneEntry(func(e *entry) { e.info ^= 1 }), 0},
		hostile{"other length", oneEntry(func(e *entry) { e.place-- }), 0},
	)
}

func hostileIndexes() []hostile {
	all := []hostile{
		{"root names itself", oneRoot(func(f *forge, leaf entry) entry {
			self := newEntry(int64(len(f.b)), 2*entryLen, kindNode+1, 2*entryLen, 0)
			return f.node(1, 0, self, leaf)
		}), 0},
		{"root names a frame", oneRoot(func(f *forge, leaf entry) entry {
			return f.node(1, 0, f.frame(kindLZ4, 0, text(4096, "x")))
		}), 0},
		{"leaf of other frames", oneRoot(func(f *forge, leaf entry) entry { return f.node(1, 0, entry{}, leaf) }), 1024},
		{"leaf behind the end", oneRoot(func(f *forge, leaf entry) entry {
			leaf.place |= 1 << 62
			return f.node(1, 0, leaf)
		}), 0},
		{"leaf is a root", newForge().root(1, entry{}, 4096), 0},
		{"root of 4080 entries", newForge().leaf(make([]entry, fanout+1)...), 0},
		{"no levels but a root", oneEntry(func(*entry) {}), 0},
		{"six levels", oneEntry(func(*entry) {}), 0},
		{"root level differs", oneEntry(func(*entry) {}), 0},
	}
	all[6].forge.sb.depth = 0
	all[7].forge.sb.depth = 6
	all[8].forge.sb.depth = 2
	odd := newForge()
	payload := append(encodeNode([]entry{odd.frame(kindLZ4, 0, text(4096, "x"))}), 0)
	all = append(all, hostile{"node of 17 bytes", odd.root(0, odd.put(kindNode, 0, payload, len(payload)), 4096), 0})
	return all
}

func hostileSuperblocks() []hostile {
	var all []hostile
	for name, change := range map[string]func(*superblock){
		"frames of 2 KiB":      func(s *superblock) { s.frameShift = 11 },
		"frames of 2 MiB":      func(s *superblock) { s.frameShift = 21 },
		"frames of 2^76":       func(s *superblock) { s.frameShift = 76 },
		"negative size":        func(s *superblock) { s.size = -1 },
		"size above 2^60":      func(s *superblock) { s.size = 1<<60 + 1 },
		"end behind the file":  func(s *superblock) { s.end = 1 << 40 },
		"end in the first":     func(s *superblock) { s.end = 8 },
		"negative end":         func(s *superblock) { s.end = math.MinInt64 },
		"no codec":             func(s *superblock) { s.codec = 0 },
		"codec 9":              func(s *superblock) { s.codec = 9 },
		"level -1":             func(s *superblock) { s.level = -1 },
		"level 100":            func(s *superblock) { s.level = 100 },
		"generation 2^48":      func(s *superblock) { s.gen = 1 << 48 },
		"log in the first":     func(s *superblock) { s.logOff = 0 },
		"log at an odd place":  func(s *superblock) { s.logOff = dataStart + 1 },
		"log far away":         func(s *superblock) { s.logOff = math.MaxInt64 - 7 },
		"negative frames":      func(s *superblock) { s.frames = -1 },
		"negative bytes":       func(s *superblock) { s.stored = -8 },
		"inline of a hole":     func(s *superblock) { s.inlineKind, s.inline = kindHole, []byte("abc") },
		"inline of nothing":    func(s *superblock) { s.inlineKind = kindRaw },
		"inline beside root":   func(s *superblock) { s.inlineKind, s.inline, s.inlinePlain = kindRaw, []byte("abc"), 3 },
		"inline of many bytes": func(s *superblock) { s.inlineKind, s.inline, s.inlinePlain = kindRaw, []byte("abc"), 1<<31-1 },
	} {
		f := oneEntry(func(*entry) {})
		change(&f.sb)
		all = append(all, hostile{name, f, 0})
	}
	bomb := newForge()
	bomb.sb.size, bomb.sb.inlineKind, bomb.sb.inlinePlain = 4096, kindGzip, 4096
	bomb.sb.inline = encoded(kindGzip, make([]byte, 1<<20))
	short := newForge()
	short.sb.size, short.sb.inlineKind, short.sb.inlinePlain, short.sb.inline = 4096, kindRaw, 4000, []byte("abc")
	return append(all, hostile{"inline bomb", bomb, 0}, hostile{"inline too short", short, 0})
}

// A store that was made to mislead is refused with ErrDamaged, by Open or when
// the frame in question is read; Check reports it; no call panics or takes long.
func TestHostileStores(t *testing.T) {
	for _, set := range [][]hostile{hostileFrames(), hostileEntries(), hostileIndexes(), hostileSuperblocks()} {
		for _, h := range set {
			image := h.forge.image()
			s, err := openImage(image)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: open: %v, want ErrDamaged", h.name, err)
				}
				continue
			}
			n, err := s.ReadAt(make([]byte, 4096), h.frame*4096)
			readDamaged := errors.Is(err, ErrDamaged)
			if err != nil && !readDamaged {
				t.Errorf("%s: read: %v, want ErrDamaged", h.name, err)
			}
			if err == nil && h.forge.sb.frames >= 0 && h.forge.sb.stored >= 0 {
				t.Errorf("%s: read gives %d bytes, want ErrDamaged", h.name, n)
			}
			if len(checked(t, s)) == 0 {
				t.Errorf("%s: check finds nothing", h.name)
			}
			useStore(t, h.name, s)
			if s, err = openDisk(diskWith(image), nil, Options{Writable: true}); err == nil {
				changeStore(t, h.name, s)
			}
		}
	}
}

// useStore calls everything that reads; only panics and errors that don't say
// damage count.
func useStore(t testing.TB, name string, s *Store) {
	t.Helper()
	frame := make([]byte, s.FrameSize())
	_, info := s.Info()
	_, data := s.SeekData(0)
	_, hole := s.SeekHole(0)
	_, frameErr := s.ReadFrame(0, frame)
	_, frameInfo := s.FrameInfo(0)
	for what, err := range map[string]error{"info": info, "seek data": data, "seek hole": hole,
		"read frame": frameErr, "frame info": frameInfo, "dump": s.Dump(io.Discard)} {
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %s: %v, want ErrDamaged or none", name, what, err)
		}
	}
}

// changeStore calls everything that writes.
func changeStore(t testing.TB, name string, s *Store) {
	t.Helper()
	_, write := s.WriteAt([]byte("x"), 100)
	for what, err := range map[string]error{"write": write, "punch": s.Punch(0, 5000), "truncate": s.Truncate(10),
		"sync": s.Sync(), "close": s.Close()} {
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, unix.EFBIG) {
			t.Errorf("%s: %s: %v, want ErrDamaged or none", name, what, err)
		}
	}
}
