package test

import (
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// Every file that the documents link to is there.
func TestDocumentedFiles(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):]+)\)`)
	for _, file := range []string{"README.md", "ARCHITECTURE.md"} {
		for _, m := range link.FindAllStringSubmatch(string(read(t, "../"+file)), -1) {
			if err := unix.Access("../"+m[1], unix.R_OK); err != nil {
				t.Errorf("%s: link to %s: %v", file, m[1], err)
			}
		}
	}
}
