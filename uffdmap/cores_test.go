package uffdmap

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// affinity is where the calling thread may run.
func affinity(t *testing.T) (set unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Error(err)
	}
	return set
}

// Threads that stay at the same time have a core each, who comes when there is none
// left runs anywhere, and all do when they end.
func TestStay(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := affinity(t)
	if all.Count() < 2 {
		t.Skip("one core")
	}
	var cores coreSet
	var taken unix.CPUSet
	begun, done, ended := make(chan unix.CPUSet), make(chan struct{}), make(chan unix.CPUSet)
	for range all.Count() {
		go func() {
			end := cores.stay()
			begun <- affinity(t)
			<-done
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			end()
			ended <- affinity(t)
		}()
		one := <-begun
		if one.Count() != 1 {
			t.Fatalf("a thread stays on %d cores, want 1", one.Count())
		}
		for cpu := range maxCores {
			if one.IsSet(cpu) {
				taken.Set(cpu)
			}
		}
	}
	if taken != all {
		t.Errorf("the threads stay on %d cores, want %d", taken.Count(), all.Count())
	}
	end := cores.stay()
	if affinity(t) != all {
		t.Error("a thread for which there is no core stays on one")
	}
	end()
	close(done)
	for range all.Count() {
		if <-ended != all {
			t.Error("a thread is kept after its end")
		}
	}
	end = cores.stay()
	if one := affinity(t); one.Count() != 1 {
		t.Errorf("when all have ended a thread stays on %d cores, want 1", one.Count())
	}
	end()
}
