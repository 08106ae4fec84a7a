package test

import (
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// Every file that a document links to is there.
func TestDocumentedFiles(t *testing.T) {
	documents := filesOf(t, ".md")
	if len(documents) < 6 {
		t.Errorf("the documents are %v, want six at least", documents)
	}
	link := regexp.MustCompile(`\]\(([^):]+)\)`)
	for _, file := range documents {
		for _, m := range link.FindAllStringSubmatch(string(read(t, "../"+file)), -1) {
			if err := unix.Access(filepath.Join("..", filepath.Dir(file), m[1]), unix.R_OK); err != nil {
				t.Errorf("%s: link to %s: %v", file, m[1], err)
			}
		}
	}
}

// The sections of store/FORMAT.md that the source and the document itself name are there.
func TestDocumentedSections(t *testing.T) {
	sections := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^## (\d+) `).FindAllStringSubmatch(string(read(t, "../store/FORMAT.md")), -1) {
		sections[m[1]] = true
	}
	section := regexp.MustCompile(`§(\d+)`)
	seen := 0
	for _, file := range append(filesOf(t, ".go"), "store/FORMAT.md") {
		for _, m := range section.FindAllStringSubmatch(string(read(t, "../"+file)), -1) {
			if seen++; !sections[m[1]] {
				t.Errorf("%s names %s, which store/FORMAT.md does not have", file, m[0])
			}
		}
	}
	if seen == 0 {
		t.Error("nothing names a section of store/FORMAT.md")
	}
}
