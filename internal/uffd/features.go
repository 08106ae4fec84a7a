package uffd

import (
	"fmt"
	"strings"
)

// Features is a set of UFFD_FEATURE_* bits. A bit says that the kernel offers
// something, or, when asked for at Open, switches it on.
type Features uint64

// The features, with the kernel that brought them.
const (
	FeatureFaultWP          Features = 1 << 0  // faults carry the WP flag, 4.3
	FeatureEventFork        Features = 1 << 1  // 4.11
	FeatureEventRemap       Features = 1 << 2  // 4.11
	FeatureEventRemove      Features = 1 << 3  // 4.11
	FeatureMissingHugetlbfs Features = 1 << 4  // 4.11
	FeatureMissingShmem     Features = 1 << 5  // ModeMissing on shared memory, 4.11
	FeatureEventUnmap       Features = 1 << 6  // 4.11
	FeatureSIGBUS           Features = 1 << 7  // a fault is a SIGBUS instead of an event, 4.14
	FeatureThreadID         Features = 1 << 8  // Event.Tid is set, 4.14
	FeatureMinorHugetlbfs   Features = 1 << 9  // 5.13
	FeatureMinorShmem       Features = 1 << 10 // ModeMinor on shared memory, 5.14
	FeatureExactAddress     Features = 1 << 11 // Event.Addr is not rounded to a page, 5.18
	FeatureWPHugetlbfsShmem Features = 1 << 12 // ModeWP on shared memory, 5.19
	FeatureWPUnpopulated    Features = 1 << 13 // WriteProtect marks absent pages too, 6.4
	FeaturePoison           Features = 1 << 14 // Poison, 6.6
	FeatureWPAsync          Features = 1 << 15 // the kernel lifts protection by itself, 6.7
	FeatureMove             Features = 1 << 16 // Move, 6.8
	featureBits                      = 17
	allFeatures             Features = 1<<featureBits - 1
)

// featureNames are the names of the bits, in LAZYFS_MASK_UFFD and in messages:
// the kernel's, in lower case.
var featureNames = [featureBits]string{
	"pagefault_flag_wp", "event_fork", "event_remap", "event_remove",
	"missing_hugetlbfs", "missing_shmem", "event_unmap", "sigbus", "thread_id",
	"minor_hugetlbfs", "minor_shmem", "exact_address", "wp_hugetlbfs_shmem",
	"wp_unpopulated", "poison", "wp_async", "move",
}

// featureKernels are the versions of Linux that brought the features.
var featureKernels = [featureBits]string{
	"4.3", "4.11", "4.11", "4.11", "4.11", "4.11", "4.11", "4.14", "4.14",
	"5.13", "5.14", "5.18", "5.19", "6.4", "6.6", "6.7", "6.8",
}

// String lists the names of the set, "wp_async|poison", or gives "none".
func (f Features) String() string {
	return f.list("|", func(bit int) string { return featureNames[bit] })
}

// needs lists the set with the kernels it needs: "poison (Linux 6.6)".
func (f Features) needs() string {
	return f.list(", ", func(bit int) string {
		return fmt.Sprintf("%s (Linux %s)", featureNames[bit], featureKernels[bit])
	})
}

func (f Features) list(sep string, name func(bit int) string) string {
	if f == 0 {
		return "none"
	}
	var names []string
	for bit := range featureBits {
		if f&(1<<bit) != 0 {
			names = append(names, name(bit))
		}
	}
	if rest := f &^ allFeatures; rest != 0 {
		names = append(names, fmt.Sprintf("%#x", uint64(rest)))
	}
	return strings.Join(names, sep)
}
