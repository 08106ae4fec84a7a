package uffdmap

// An evictQueue decides which frame leaves memory next. It is told when a frame
// comes in and when one goes.
//
// A frame that is new is on probation: it leaves in its turn, so that frames that
// are needed once, by a scan, push out only each other. One that comes back soon
// after it left has proven itself, and goes to the others, which leave in turn only
// while few are on probation. That needs no notice of single touches, which a
// served mapping does not get; where there is one, it gives a proven frame another
// turn.
type evictQueue struct {
	probation, others frameQueue
	gone              frameQueue // that left last, as many as are in memory
	state             map[int64]frameState
}

// A frameState is where a frame of an evictQueue is.
type frameState uint8

const (
	stateGone frameState = iota + 1
	stateProbation
	stateOther
)

// probationShare is the share of the frames that are on probation where there are
// enough others: one in so many.
const probationShare = 4

// len is the number of frames in memory.
func (q *evictQueue) len() int { return q.probation.len() + q.others.len() }

func (q *evictQueue) init() {
	if q.state == nil {
		q.state = map[int64]frameState{}
	}
}

// add says that frame n is in memory.
func (q *evictQueue) add(n int64) {
	switch q.state[n] {
	case stateProbation, stateOther:
	case stateGone:
		q.keep(n, true)
	default:
		q.keep(n, false)
	}
}

// next takes out the frame that should leave next; evicted or keep follows. proven
// says that it is none on probation. There must be a frame.
func (q *evictQueue) next() (n int64, proven bool) {
	if q.others.len() == 0 || q.probation.len() > q.len()/probationShare {
		return q.probation.pop(), false
	}
	return q.others.pop(), true
}

// keep puts frame n, which stays in memory, to the end of the others, or of those
// on probation.
func (q *evictQueue) keep(n int64, proven bool) {
	q.init()
	if proven {
		q.state[n] = stateOther
		q.others.push(n)
	} else {
		q.state[n] = stateProbation
		q.probation.push(n)
	}
}

// evicted says that frame n has left memory.
func (q *evictQueue) evicted(n int64) {
	q.init()
	q.state[n] = stateGone
	q.gone.push(n)
	for q.gone.len() > q.len()+1 {
		old := q.gone.pop()
		if q.state[old] == stateGone { // Otherwise it has come back.
			delete(q.state, old)
		}
	}
}

// A frameQueue is a first-in, first-out queue in a ring.
type frameQueue struct {
	ring []int64
	head int // index of the first
	n    int
}

func (q *frameQueue) len() int { return q.n }

func (q *frameQueue) push(f int64) {
	if q.n == len(q.ring) {
		grown := make([]int64, max(2*q.n, 64))
		copied := copy(grown, q.ring[q.head:])
		copy(grown[copied:], q.ring[:q.head])
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)%len(q.ring)] = f
	q.n++
}

func (q *frameQueue) pop() int64 {
	f := q.ring[q.head]
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	return f
}
