package fs_test

import (
	"os"
	"path/filepath"
	"testing"
)

// What is appended to a plain file through the mount comes behind what others have
// just appended, or left of it, also where somebody had it open all the while.
func TestAppendToPlainAfterOthers(t *testing.T) {
	for _, held := range []bool{false, true} {
		back := t.TempDir()
		path := filepath.Join(back, "f")
		write(t, path, []byte("one\n"))
		d := mountRW(t, back)
		same(t, d.path("f"), []byte("one\n"))
		if held {
			f, err := os.Open(d.path("f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		appendTo(t, path, "two\n")
		appendTo(t, d.path("f"), "three\n")
		same(t, path, []byte("one\ntwo\nthree\n"))
		appendTo(t, d.path("f"), "four\n")
		write(t, path, []byte("five\n"))
		appendTo(t, d.path("f"), "six\n")
		same(t, path, []byte("five\nsix\n"))
		same(t, d.path("f"), []byte("five\nsix\n"))
	}
}
