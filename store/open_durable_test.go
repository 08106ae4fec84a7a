package store

import (
	"math/rand/v2"
	"testing"
)

// What a writer reads again is all that the log names, and each block of it once.
func TestNamedBy(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var commits []commit
	named := map[int64]bool{} // block numbers
	name := func(e extent) {
		for b := e.off / blockLen; b*blockLen < e.end(); b++ {
			named[b] = true
		}
	}
	for range 20 {
		c := commit{blocks: []int64{rnd.Int64N(5000) * blockLen}}
		name(extent{c.blocks[0], logBlockLen})
		for range 20 {
			e := newEntry(rnd.Int64N(20<<20/unit)*unit, 1+rnd.IntN(16<<10), kindRaw, 16<<10, 0)
			c.ops = append(c.ops, logOp{opSet, rnd.Int64N(1000), e}, logOp{opClear, 7, entry{place: 3}})
			name(e.extent())
		}
		commits = append(commits, c)
	}
	end := int64(-1)
	for _, e := range namedBy(commits) {
		if e.off <= end || e.off%blockLen != 0 || e.len%blockLen != 0 {
			t.Errorf("extent %+v behind one that ends at %#x", e, end)
		}
		end = e.end()
		for b := e.off / blockLen; b*blockLen < end; b++ {
			if !named[b] {
				t.Errorf("block %d is not named", b)
			}
			delete(named, b)
		}
	}
	if len(named) > 0 {
		t.Errorf("%d blocks are left out", len(named))
	}
}
