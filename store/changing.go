package store

// A nodeSet says which nodes of an index a checkpoint may have to write.
type nodeSet struct {
	leaves map[int64]struct{}   // by number of the first frame >> fanoutBits
	upper  map[nodePos]struct{} // above the leaves
}

// A nodePos is a node's place in the index: its level, and its number within that.
type nodePos struct {
	level  int
	number int64
}

func newNodeSet() nodeSet {
	return nodeSet{map[int64]struct{}{}, map[nodePos]struct{}{}}
}

// add adds the nodes on the way to frame n in an index of so many levels.
func (s *nodeSet) add(n int64, depth int) {
	if _, found := s.leaves[n>>fanoutBits]; found {
		return
	}
	for level := range depth {
		s.put(nodeAt(n, level))
	}
}

// fresh counts the nodes that add would add.
func (s *nodeSet) fresh(n int64, depth int) (count int64) {
	if _, found := s.leaves[n>>fanoutBits]; found {
		return 0
	}
	for level := range depth {
		if !s.has(nodeAt(n, level)) {
			count++
		}
	}
	return count
}

// freshEdges lists the nodes which the set lacks and which lose some of their frames,
// but not all, when those of r become holes: only found are none among them. On each
// level these are at most two, since r covers what lies between.
func (s *nodeSet) freshEdges(r, found span, depth int) (edges []nodePos) {
	for level := range depth {
		first, last := nodeAt(found.from, level), nodeAt(found.to-1, level)
		if !s.has(first) && !r.covers(first.frames()) {
			edges = append(edges, first)
		}
		if last != first && !s.has(last) && !r.covers(last.frames()) {
			edges = append(edges, last)
		}
	}
	return edges
}

func (s *nodeSet) has(p nodePos) (found bool) {
	if p.level == 0 {
		_, found = s.leaves[p.number]
	} else {
		_, found = s.upper[p]
	}
	return found
}

func (s *nodeSet) put(p nodePos) {
	if p.level == 0 {
		s.leaves[p.number] = struct{}{}
	} else {
		s.upper[p] = struct{}{}
	}
}

func (s *nodeSet) len() int64 { return int64(len(s.leaves) + len(s.upper)) }

func (s *nodeSet) clear() {
	clear(s.leaves)
	clear(s.upper)
}

// nodeAt is the node of a level on the way to frame n.
func nodeAt(n int64, level int) nodePos {
	return nodePos{level, n >> ((level + 1) * fanoutBits)}
}

// frames are those that the node covers.
func (p nodePos) frames() span {
	bits := (p.level + 1) * fanoutBits
	return span{p.number << bits, (p.number + 1) << bits}
}

// depthFor is how many levels an index has that covers frame n.
func depthFor(n int64) int {
	depth := 1
	for n>>(depth*fanoutBits) != 0 {
		depth++
	}
	return depth
}
