package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the state of the source that this program was built from. The
// Makefile sets it; otherwise the Go toolchain may know it.
var version string

// buildVersion is the version and what it was built with and for.
func buildVersion() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	return fmt.Sprintf("%s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
