package store

import (
	"errors"
	"sync"
	"sync/atomic"
)

const (
	fanoutBits = 10
	fanout     = 1 << fanoutBits // entries of a full node
	maxDepth   = 5               // 2^50 frames, more than maxFrameNumber
	keptNodes  = 512             // nodes kept in memory beside the root, 8 to 12 MiB
)

// A node is one node of the index in memory. Its entries change only under
// Store.mu; its kids are loaded by readers, too.
type node struct {
	level   int
	first   int64                  // the first frame it covers
	dirty   bool                   // differs from what its parent's entry names
	entries []entry                // as many as it has in the file, or fanout: holes follow
	kids    []atomic.Pointer[node] // nil for a leaf, otherwise as many
}

func newNode(level int, first int64, entries int) *node {
	n := &node{level: level, first: first, entries: make([]entry, entries)}
	if level > 0 {
		n.kids = make([]atomic.Pointer[node], entries)
	}
	return n
}

// widen gives n room for all the entries that a node may have. On disk it may take 40
// bytes, and a log may change many: none is wide in memory before it has to be.
func (n *node) widen() {
	wide := newNode(n.level, n.first, fanout)
	copy(wide.entries, n.entries)
	for i := range n.kids {
		wide.kids[i].Store(n.kids[i].Load())
	}
	n.entries, n.kids = wide.entries, wide.kids
}

// entry is the i-th entry of n.
func (n *node) entry(i int) entry {
	if i < len(n.entries) {
		return n.entries[i]
	}
	return entry{}
}

// slot is the position of frame in n.
func (n *node) slot(frame int64) int { return int(frame>>(n.level*fanoutBits)) & (fanout - 1) }

// roomFor is slot, and n has room for an entry there afterwards.
func (n *node) roomFor(frame int64) int {
	i := n.slot(frame)
	if i >= len(n.entries) {
		n.widen()
	}
	return i
}

// span is the number of frames that one entry of n covers.
func (n *node) span() int64 { return levelSpan(n.level) }

// levelSpan is the number of frames that one entry of a node of that level covers.
func levelSpan(level int) int64 { return 1 << (level * fanoutBits) }

// slots are the positions in n, from from on and below to, that cover frames of r.
func (n *node) slots(r span) (from, to int) {
	slot := func(frames int64) int { return int(min(max(frames, 0)/n.span(), int64(len(n.entries)))) }
	return slot(r.from - n.first), slot(r.to - n.first + n.span() - 1)
}

// An index maps frame numbers to entries (FORMAT §4): a tree of nodes, read on
// demand, copied on write. lookup and scan may run at the same time as each
// other; everything else needs the lock that guards the store.
type index struct {
	read  func(e entry, frame int64) ([]byte, error) // verified payload of a node
	shift uint8                                      // of the frame size, for the ranges in errors
	root  *node                                      // nil: every frame is a hole
	at    entry                                      // where the root lies on disk

	mu   sync.Mutex // guards kept and next
	kept []keptNode // ring of loaded nodes; the oldest makes room
	next int
}

type keptNode struct {
	parent *node
	slot   int
}

func (x *index) depth() int {
	if x.root == nil {
		return 0
	}
	return x.root.level + 1
}

// covers reports whether frame lies within the tree as it is.
func (x *index) covers(frame int64) bool {
	return x.root != nil && frame>>(x.depth()*fanoutBits) == 0
}

// open loads the root that a superblock names.
func (x *index) open(root entry, depth int) error {
	x.root, x.at = nil, root
	if depth == 0 {
		return nil
	}
	n, err := x.load(root, depth-1, 0)
	x.root = n
	return err
}

// lookup returns the entry of frame.
func (x *index) lookup(frame int64) (entry, error) {
	if !x.covers(frame) {
		return entry{}, nil
	}
	n := x.root
	for n.level > 0 {
		kid, err := x.kid(n, n.slot(frame))
		if kid == nil {
			return entry{}, err
		}
		n = kid
	}
	return n.entry(n.slot(frame)), nil
}

// kid returns the i-th child of n, which it reads when it isn't in memory, or
// nil when all its frames are holes.
func (x *index) kid(n *node, i int) (*node, error) {
	if i >= len(n.kids) {
		return nil, nil
	}
	if kid := n.kids[i].Load(); kid != nil {
		return kid, nil
	}
	e := n.entries[i]
	if e == (entry{}) {
		return nil, nil
	}
	first := n.first + int64(i)*n.span()
	kid, err := x.load(e, n.level-1, first)
	var damage *DamageError
	if errors.As(err, &damage) {
		damage.Plain = plainRange(span{first, first + n.span()}, x.shift)
	}
	if err != nil {
		return nil, err
	}
	if !n.kids[i].CompareAndSwap(nil, kid) {
		if won := n.kids[i].Load(); won != nil {
			return won, nil
		}
		return kid, nil // Evicted again meanwhile; this copy is as good.
	}
	x.keep(n, i)
	return kid, nil
}

// keep notes that a node came into memory, and lets the oldest go if it is clean.
func (x *index) keep(parent *node, slot int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.kept) < keptNodes {
		x.kept = append(x.kept, keptNode{parent, slot})
		return
	}
	old := x.kept[x.next]
	if kid := old.parent.kids[old.slot].Load(); kid != nil && !kid.dirty {
		old.parent.kids[old.slot].Store(nil)
	}
	x.kept[x.next] = keptNode{parent, slot}
	x.next = (x.next + 1) % keptNodes
}

// load reads and decodes the node of e.
func (x *index) load(e entry, level int, first int64) (*node, error) {
	if e.kind() != kindNode+kind(level) {
		return nil, damagef("index", e.off(), "entry is of kind %#x, want a node of level %d", uint8(e.kind()), level)
	}
	b, err := x.read(e, first)
	if err != nil {
		return nil, err
	}
	if len(b)%entryLen != 0 || len(b) > fanout*entryLen {
		return nil, damagef("index", e.off(), "node is %d bytes, want a multiple of 16 up to %d", len(b), fanout*entryLen)
	}
	n := newNode(level, first, len(b)/entryLen)
	for i := range n.entries {
		n.entries[i] = getEntry(b[i*entryLen:])
		if err := x.check(n.entries[i], level, first+int64(i)*n.span()); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// check checks an entry of a node on disk, for the frames from number first on,
// so that no other code meets one that can't be (FORMAT §4).
func (x *index) check(e entry, level int, first int64) error {
	switch {
	case level == 0:
		return checkFrameEntry(e, first, 1<<x.shift, maxFileSize)
	case e != (entry{}) && e.kind() != kindNode+kind(level-1):
		return damagef("index", e.off(), "entry is of kind %#x, want a node of level %d", uint8(e.kind()), level-1)
	}
	return nil
}
