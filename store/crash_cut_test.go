package store

import (
	"fmt"
	"math/rand/v2"
)

// cut builds crash states of this moment: all of them when few operations are
// pending, but for the sectors of torn ones, otherwise a sample.
func (h *crashHarness) cut() {
	n := len(h.d.pending)
	r := rand.New(rand.NewPCG(uint64(h.d.ops), 9))
	c := crash{turn: make([]int, n), done: make([][]bool, n)}
	for i := range c.turn {
		c.turn[i] = i
	}
	if n <= 3 {
		all := 1
		for range n {
			all *= 3
		}
		for k := range all {
			for i, v := 0, k; i < n; i, v = i+1, v/3 {
				c.done[i] = h.d.pending[i].fate(v%3, r)
			}
			h.try(c)
		}
		return
	}
	for range someRuns(4, 16, 16) {
		bias := r.IntN(4)
		for i := range c.done {
			how := r.IntN(3)
			if bias > 0 && r.IntN(4) > 0 {
				how = bias % 2
			}
			c.done[i] = h.d.pending[i].fate(how, r)
		}
		if r.IntN(2) == 0 {
			r.Shuffle(n, func(i, j int) { c.turn[i], c.turn[j] = c.turn[j], c.turn[i] })
			h.d.untangle(c.turn)
		}
		h.try(c)
	}
}

// try looks at one crash state. Of one that is wrong it finds out what is needed
// for that.
func (h *crashHarness) try(c crash) {
	if h.fault != "" {
		return
	}
	h.states[h.doing]++
	fault := h.examine(h.d.image(c))
	if fault == "" {
		return
	}
	for i, op := range h.d.pending {
		was := c.done[i]
		c.done[i] = op.fate(kept, nil)
		if worse := h.examine(h.d.image(c)); worse != "" {
			fault = worse
		} else {
			c.done[i] = was
		}
	}
	h.fault = fmt.Sprintf("power cut during %s, after generation %d became durable: %s\nwhat was pending, in this order:%s",
		h.doing, h.durable, fault, h.d.describe(c))
}
