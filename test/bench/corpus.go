package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The corpus is a folder with
//
//	image    a large file of what disks and dumps hold: programs, source text,
//	         log lines, random bytes, and holes
//	tree/    many small files
//	scratch  a file to be written
//
// Programs and text come from Go's own tree, which this program was built with,
// and all else from a fixed seed, so that two runs with one version of Go have
// the same corpus.

func makeCorpus(m *machine, p plan) error {
	files, err := goFiles(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.path("corpus", "tree"), 0o755); err != nil {
		return err
	}
	if err := makeImage(m.path("corpus", "image"), files, p.Image); err != nil {
		return err
	}
	if err := makeTree(m.path("corpus", "tree"), files, p.Files); err != nil {
		return err
	}
	if err := makeImage(m.path("corpus", "scratch"), files, p.Scratch); err != nil {
		return err
	}
	return makeImage(m.path("sample"), files, p.Sample)
}

// goFiles lists the files of Go's tree in a random but fixed order.
func goFiles(m *machine) ([]string, error) {
	root, err := m.run("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var files []string
	err = filepath.WalkDir(strings.TrimSpace(root), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	rnd := rand.New(rand.NewPCG(1, 1))
	rnd.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	return files, err
}

// imagePiece is the size of the pieces of an image, each of one kind.
const imagePiece = 1 << 20

// makeImage makes a file of size bytes. Of 16 pieces 13 are files of Go's tree one
// after the other, one is a log, one is random, and one is a hole.
func makeImage(path string, files []string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(2, 2))
	var rest []byte
	next := 0
	for off := int64(0); off < size; off += imagePiece {
		var piece []byte
		switch off / imagePiece % 16 {
		case 3:
			piece = logLines(rnd)
		case 7:
			piece = make([]byte, imagePiece)
			for i := range piece {
				piece[i] = byte(rnd.Uint32())
			}
		case 11:
			continue
		default:
			for len(rest) < imagePiece {
				b, err := os.ReadFile(files[next%len(files)])
				if err != nil {
					return err
				}
				rest = append(rest, b...)
				next++
			}
			piece, rest = rest[:imagePiece], rest[imagePiece:]
		}
		if _, err := f.WriteAt(piece[:min(imagePiece, size-off)], off); err != nil {
			return err
		}
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

func logLines(rnd *rand.Rand) []byte {
	var b []byte
	for len(b) < imagePiece {
		b = fmt.Appendf(b, "2024-01-%02d %02d:%02d:%02d host%d service[%d]: request %016x took %d ms, status %d\n",
			1+rnd.IntN(28), rnd.IntN(24), rnd.IntN(60), rnd.IntN(60), rnd.IntN(8), rnd.IntN(40000), rnd.Uint64(), rnd.IntN(2000), 200+100*rnd.IntN(4))
	}
	return b[:imagePiece]
}

// makeTree makes n small files, a hundred in a folder.
func makeTree(dir string, files []string, n int) error {
	for i, made := 0, 0; made < n; i++ {
		b, err := os.ReadFile(files[i%len(files)])
		if err != nil {
			return err
		}
		if len(b) == 0 || len(b) > 64<<10 {
			continue
		}
		folder := filepath.Join(dir, fmt.Sprintf("%03d", made/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("f%05d", made)), b, 0o644); err != nil {
			return err
		}
		made++
	}
	return nil
}

// cores is the number of processors, for the report.
var cores = runtime.NumCPU()
