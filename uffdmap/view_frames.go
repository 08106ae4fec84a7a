package uffdmap

import "sync"

// The word of a frame. An absent frame's is 0. Pins and edits fit into 28 bits
// because every one is a Span somebody holds.
const (
	pinOne  = 1              // held, by a View for instance
	editOne = 1<<28 + pinOne // held and possibly being written

	pinMask  = 1<<28 - 1
	editMask = (1<<28 - 1) << 28

	frameResident = 1 << 56 // all pages are in memory
	frameBusy     = 1 << 57 // one goroutine brings it in or evicts it
	frameAwaited  = 1 << 58 // with frameBusy: somebody waits in waitList
	frameUsed     = 1 << 59 // with frameResident: used since the evictor passed
)

// The outcomes of take.
type taken int

const (
	takenPinned  taken = iota // resident, and pinned now
	takenClaimed              // was absent; the caller brings it in, or settles it
	takenBusy                 // another goroutine is at it: await, and try again
)

// take pins frame n, or claims it.
func (v *Viewer) take(n int64, pin uint64) taken {
	word := &v.frames[n]
	for {
		w := word.Load()
		switch {
		case w&frameBusy != 0:
			return takenBusy
		case w&frameResident != 0:
			if word.CompareAndSwap(w, (w|frameUsed)+pin) {
				return takenPinned
			}
		case word.CompareAndSwap(w, frameBusy):
			return takenClaimed
		}
	}
}

// pinResident pins frame n unless it is absent.
func (v *Viewer) pinResident(n int64) bool {
	word := &v.frames[n]
	for {
		switch w := word.Load(); {
		case w&frameBusy != 0:
			v.await(n)
		case w&frameResident == 0:
			return false
		case word.CompareAndSwap(w, w+pinOne):
			return true
		}
	}
}

// unpin undoes the pins of the frames from first on and below end.
func (v *Viewer) unpin(first, end int64, pin uint64) {
	for n := first; n < end; n++ {
		v.frames[n].Add(-pin)
	}
}

// settle gives a busy frame its new word and wakes who waits for it.
func (v *Viewer) settle(n int64, word uint64) {
	if v.frames[n].Swap(word)&frameAwaited != 0 {
		v.waiting.wake(n)
	}
}

// await returns when frame n is no longer busy.
func (v *Viewer) await(n int64) {
	l := &v.waiting
	l.mu.Lock()
	for word := &v.frames[n]; ; {
		w := word.Load()
		if w&frameBusy == 0 {
			l.mu.Unlock()
			return
		}
		if word.CompareAndSwap(w, w|frameAwaited) {
			break
		}
	}
	c := l.waits[n]
	if c == nil {
		c = make(chan struct{})
		if l.waits == nil {
			l.waits = map[int64]chan struct{}{}
		}
		l.waits[n] = c
	}
	l.mu.Unlock()
	<-c
}

// A waitList is who waits for which frame.
type waitList struct {
	// mu guards waits, and is held from setting frameAwaited until the channel
	// is there to be closed.
	mu    sync.Mutex
	waits map[int64]chan struct{}
}

func (l *waitList) wake(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.waits[n])
	delete(l.waits, n)
}
