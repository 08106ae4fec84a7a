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
	s.leaves[n>>fanoutBits] = struct{}{}
	for level := 1; level < depth; level++ {
		s.upper[upperNode(n, level)] = struct{}{}
	}
}

// fresh counts the nodes that add would add.
func (s *nodeSet) fresh(n int64, depth int) (count int64) {
	if _, found := s.leaves[n>>fanoutBits]; found {
		return 0
	}
	for level := 1; level < depth; level++ {
		if _, found := s.upper[upperNode(n, level)]; !found {
			count++
		}
	}
	return count + 1
}

func (s *nodeSet) len() int64 { return int64(len(s.leaves) + len(s.upper)) }

func (s *nodeSet) clear() {
	clear(s.leaves)
	clear(s.upper)
}

func upperNode(n int64, level int) nodePos {
	return nodePos{level, n >> ((level + 1) * fanoutBits)}
}

// depthFor is how many levels an index has that covers frame n.
func depthFor(n int64) int {
	depth := 1
	for n>>(depth*fanoutBits) != 0 {
		depth++
	}
	return depth
}
