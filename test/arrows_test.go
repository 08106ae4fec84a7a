package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A node says what one package may import, besides the standard library.
type node struct {
	code  []string // packages of lazyfs by path, others by module
	tests []string // what its tests may import besides that and itself
	std   []string // packages of the standard library that it may not import
}

// arrows is the whole graph. Who adds an edge here adds it to ARCHITECTURE.md.
// What only the tests of the whole import is free, and so are their packages.
var arrows = map[string]node{
	"codec": {
		code: []string{"github.com/klauspost/compress", "github.com/pierrec/lz4/v4"},
		std:  neitherLogNorFlag,
	},
	"store": {
		code: []string{"codec", "github.com/tidwall/btree", "golang.org/x/sync", "golang.org/x/sys"},
		std:  neitherLogNorFlag,
	},
	"internal/uffd": {
		code: []string{"golang.org/x/sys"},
		std:  neitherLogNorFlag,
	},
	"uffdmap": {
		code:  []string{"store", "internal/uffd", "github.com/landlock-lsm/go-landlock", "golang.org/x/sys"},
		tests: []string{"codec", "test/disktest"},
		std:   []string{"flag"},
	},
	"internal/fusedev": {
		code: []string{"github.com/hanwen/go-fuse/v2", "golang.org/x/sys"},
		std:  []string{"flag"},
	},
	"fs": {
		code:  []string{"store", "codec", "internal/fusedev", "github.com/hanwen/go-fuse/v2", "golang.org/x/sync", "golang.org/x/sys"},
		tests: []string{"test/disktest"},
		std:   []string{"flag"},
	},
	"internal/load": {
		code: []string{"golang.org/x/sys"},
		std:  neitherLogNorFlag,
	},
	"internal/picture": {
		code: []string{"golang.org/x/image"},
		std:  append(neitherLogNorFlag, "os"),
	},
	"cmd/lazyfs": {
		code: []string{"fs", "uffdmap", "store", "codec", "internal/load", "internal/picture", "github.com/spf13/pflag", "golang.org/x/sync", "golang.org/x/sys"},
	},
}

var neitherLogNorFlag = []string{"log", "log/slog", "flag", "os/exec"}

// Each package imports what the table allows, all of it and nothing else, whatever
// system a file is built for.
func TestArrows(t *testing.T) {
	seen := map[string]bool{}
	used := map[[2]string]bool{} // edges
	for _, file := range filesOf(t, ".go") {
		pkg := path.Dir(file)
		if pkg == "test" || strings.HasPrefix(pkg, "test/") {
			continue
		}
		allowed, ok := arrows[pkg]
		if !ok {
			t.Errorf("%s: package %s is not in the table of arrows", file, pkg)
			continue
		}
		seen[pkg] = true
		for _, imported := range imports(t, file) {
			test := strings.HasSuffix(file, "_test.go")
			if !allowed.permits(pkg, imported, test) {
				t.Errorf("%s: %s may not import %s", file, pkg, imported)
			}
			for _, to := range slices.Concat(allowed.code, allowed.tests) {
				if leadsTo(imported, to) && (!test || !slices.Contains(allowed.code, to)) {
					used[[2]string{pkg, to}] = true
				}
			}
		}
	}
	for pkg, n := range arrows {
		if !seen[pkg] {
			t.Errorf("package %s is in the table of arrows and has no source", pkg)
		}
		for _, to := range slices.Concat(n.code, n.tests) {
			if !used[[2]string{pkg, to}] {
				t.Errorf("the table of arrows lets %s import %s, which it does not", pkg, to)
			}
		}
	}
}

// permits says whether package pkg, or one of its tests, may import imported.
func (n node) permits(pkg, imported string, test bool) bool {
	first, _, _ := strings.Cut(imported, "/")
	if first != "lazyfs" && !strings.Contains(first, ".") {
		return test || !slices.Contains(n.std, imported)
	}
	if test && imported == "lazyfs/"+pkg {
		return true
	}
	allowed := n.code
	if test {
		allowed = slices.Concat(n.code, n.tests)
	}
	return slices.ContainsFunc(allowed, func(a string) bool { return leadsTo(imported, a) })
}

// leadsTo says whether an imported package is to, a package of lazyfs, or lies in to, a
// module.
func leadsTo(imported, to string) bool {
	if inner, ours := strings.CutPrefix(imported, "lazyfs/"); ours {
		return inner == to
	}
	return imported == to || strings.HasPrefix(imported, to+"/")
}

// fs and uffdmap don't import each other, whatever the table may say, and nobody
// imports the command.
func TestArrowsThatNeverAre(t *testing.T) {
	for pkg, n := range arrows {
		for _, to := range slices.Concat(n.code, n.tests) {
			if pkg == "fs" && to == "uffdmap" || pkg == "uffdmap" && to == "fs" || to == "cmd/lazyfs" {
				t.Errorf("the table of arrows lets %s import %s", pkg, to)
			}
		}
	}
}

// filesOf returns the module's files whose names have that end, by their paths inside the
// module.
func filesOf(t *testing.T, end string) []string {
	const root = ".." // the module's top: a test runs in its package's folder
	var files []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && name != root
		if d.IsDir() && (hidden || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, end) {
			inside, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			files = append(files, inside)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// imports returns what a file of the module imports.
func imports(t *testing.T, file string) []string {
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, imported)
	}
	return all
}
