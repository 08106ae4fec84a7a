package main

import (
	"fmt"
	"os"
	"testing"

	"lazyfs/uffdmap"
)

func TestMain(m *testing.M) {
	uffdmap.Main()
	os.Exit(m.Run())
}

// The program says which pages came from files, and which were written while
// protected, and finds its words.
func Example() {
	fmt.Println("error:", run())
	// Output:
	// page 0 holds 0xDEADBEEFDEADBEEF
	// page 8 holds 0xDEADBEEFDEADBEEF
	// brought in: pages [0 4 8]
	// written while protected: pages [0]
	// the words are 0x43 0x42 0xDEADBEEFDEADBEEF
	// error: <nil>
}
