package uffd

import (
	"os"
	"strings"
)

// MaskEnv is the environment variable that hides parts of the kernel from this
// package, so that every fallback can be tested on one kernel. Its value is a
// list of words separated by commas:
//
//	dev           /dev/userfaultfd can't be opened
//	syscall       userfaultfd(2) without USER_MODE_ONLY is refused
//	usermode      userfaultfd(2) with USER_MODE_ONLY is refused
//	pagemap_scan  PAGEMAP_SCAN is unknown
//	wp_async, poison, move, …  the feature of that name is not offered
//
// It is read whenever something is opened or scanned, and child processes
// inherit it. What is open already keeps what it has.
const MaskEnv = "LAZYFS_MASK_UFFD"

// masked says whether word is in the mask.
func masked(word string) bool {
	for rest := os.Getenv(MaskEnv); rest != ""; {
		var w string
		w, rest, _ = strings.Cut(rest, ",")
		if w == word {
			return true
		}
	}
	return false
}

// maskedFeatures are the features in the mask.
func maskedFeatures() Features {
	var f Features
	for bit, name := range featureNames {
		if masked(name) {
			f |= 1 << bit
		}
	}
	return f
}
