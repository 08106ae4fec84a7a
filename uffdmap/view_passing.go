package uffdmap

import "errors"

// pass does a call that holds frames, or room for them, and waits for nobody who holds
// some: it lets go soon, as a Span need not. When it gives ErrLimit it holds nothing.
// Others that let go soon may have held what it needed, or each a part of what the other
// needed, so it is done again while there are none.
func (v *Viewer) pass(call func() error) error {
	err := v.passBeside(call)
	if v.limit == 0 || !errors.Is(err, ErrLimit) {
		return err
	}
	v.passing.Lock()
	defer v.passing.Unlock()
	return call()
}

// passBeside does a call beside others.
func (v *Viewer) passBeside(call func() error) error {
	if v.limit > 0 {
		v.passing.RLock()
		defer v.passing.RUnlock()
	}
	return call()
}
