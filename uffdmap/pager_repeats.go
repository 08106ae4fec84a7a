package uffdmap

import "os"

// A repeats tells which requests of the program come a second time. One that the last
// pager left unread this one finds in the socket; then the program sends all that have
// no reply again, this one maybe among them. Protect and Snapshot, done twice, would
// forget what was written in between.
type repeats struct {
	seen map[uint64]struct{} // sequence numbers, until the program has sent all again
}

// expect is called by a pager that has succeeded another, to which the program will
// tell when it has sent all again. Others would remember every request.
func (r *repeats) expect() { r.seen = map[uint64]struct{}{} }

// isNew says whether m is to be obeyed.
func (r *repeats) isNew(m message) bool {
	if m.Verb == verbRepeated {
		if m.Pager == os.Getpid() { // Otherwise it was for a pager that is dead.
			r.seen = nil
		}
		return false
	}
	if r.seen == nil {
		return true
	}
	_, again := r.seen[m.Seq]
	r.seen[m.Seq] = struct{}{}
	return !again
}
