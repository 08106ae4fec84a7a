package fs

import "runtime"

// Procs is how many threads may run Go code at once (runtime.GOMAXPROCS) in a process
// that serves a mount, once it is mounted.
//
// One thread more than the GOMAXPROCS at the time of Mount, but no less than three and no
// more than 16, may wait for the kernel's requests. Each keeps its right to run Go code,
// and finds it again at once when a request comes, as long as there is one more than wait.
// With fewer a thread that has a request waits until the scheduler takes the right from
// one that has none, 20 µs and a switch of threads later.
func Procs() int { return max(2, runtime.GOMAXPROCS(0)) + 2 }
