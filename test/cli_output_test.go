package test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A report or a picture never replaces a store, whose name may stand behind a flag by
// mistake, as in info --map *.lazy; neither a damaged one nor by a symbolic link.
func TestOutputReplacesNoStore(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	must(t, dir, "pack", "plain", "a.lazy")
	must(t, dir, "pack", "plain", "b.lazy")
	packed := read(t, dir+"/a.lazy")
	if err := os.Symlink("a.lazy", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/damaged", slices.Concat(packed[:8], make([]byte, 4088), packed[4096:]))
	damaged := read(t, dir+"/damaged")
	for _, args := range [][]string{
		{"info", "--map", "a.lazy", "b.lazy"},
		{"info", "--map", "a.lazy", "a.lazy"},
		{"info", "--map", "link", "b.lazy"},
		{"bench", "map", "--map", "a.lazy", "b.lazy"},
		{"bench", "map", "--output", "a.lazy", "b.lazy"},
		{"bench", "file", "--output", "a.lazy", "plain"},
	} {
		r := lazyfs(t, dir, args...)
		failed(t, r, 3, "lazyfs "+args[0]+": "+args[len(args)-2]+": is a store: it is not replaced")
		if r.out != "" {
			t.Errorf("%q prints %q before it fails", args, r.out)
		}
	}
	fails(t, dir, 3, "lazyfs info: ", "info", "--map", "damaged", "b.lazy")
	if !bytes.Equal(read(t, dir+"/a.lazy"), packed) || !bytes.Equal(read(t, dir+"/damaged"), damaged) {
		t.Error("a store was replaced")
	}
}

// A report does not replace what is measured, by whatever name, nor a picture a report.
func TestOutputReplacesNoTarget(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 100000)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	if err := os.Link(dir+"/plain", dir+"/name"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"bench", "file", "--output", "plain", "plain"},
		{"bench", "file", "--output", "name", "plain"},
		{"bench", "file", "--rw=write", "--size=64k", "--output", "./new", "new"},
		{"bench", "map", "--output", "report", "--map", "report", "x.lazy"},
	} {
		failed(t, lazyfs(t, dir, args...), 3, "lazyfs bench: "+args[len(args)-2]+": would replace ")
	}
	if !bytes.Equal(read(t, dir+"/plain"), plain) {
		t.Error("the measured file was replaced")
	}
	if got := list(t, dir); !slices.Equal(got, []string{"name", "plain", "x.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
}

// Where the report or the picture can't be written, nothing is measured before.
func TestOutputBeforeMeasuring(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	must(t, dir, "pack", "plain", "x.lazy")
	fails(t, dir, 3, "lazyfs bench: create in none: no such file or directory", "bench", "file", "--rw=write", "--size=64k", "--output=none/report", "new")
	fails(t, dir, 3, "lazyfs bench: create in none: no such file or directory", "bench", "map", "--rw=write", "--overwrite", "--map=none/a.png", "x.lazy")
	if got := list(t, dir); !slices.Equal(got, []string{"plain", "x.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
	if got := must(t, dir, "cat", "x.lazy"); got != string(read(t, dir+"/plain")) {
		t.Error("the store was written to")
	}
}

// A command whose answer can't be written fails, whatever the answer is.
func TestFullOutput(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 10*16384))
	must(t, dir, "pack", "plain", "x.lazy")
	must(t, dir, "pack", "plain", "bad.lazy")
	damageFrame(t, dir+"/bad.lazy", 7)
	for _, args := range []string{
		"--help", "pack --help", "--version", "info x.lazy", "info x.lazy x.lazy", "info --json x.lazy", "cat x.lazy", "dump x.lazy", "unpack x.lazy -",
		"check x.lazy", "check x.lazy x.lazy", "check --json x.lazy", "check bad.lazy", "check --repair bad.lazy", "check --json --repair x.lazy",
		"bench map x.lazy", "bench map --json x.lazy",
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := command(dir, strings.Fields(args)...)
		var errs bytes.Buffer
		c.Stdout, c.Stderr = full, &errs
		_ = c.Run() // the exit code tells
		full.Close()
		if code := c.ProcessState.ExitCode(); code != 3 || strings.Count(errs.String(), "write /dev/stdout: no space left on device") != 1 {
			t.Errorf("%s: exit code %d, %q; want 3 and the cause", args, code, errs.String())
		}
	}
}

// A picture of a large store costs what the store holds, not what its holes would.
func TestMapOfHoles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	if err := os.Truncate(dir+"/plain", 128<<30); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "pack", "--quiet", "plain", "x.lazy")
	c := command(dir, "info", "--map=a.png", "x.lazy")
	if r := finish(t, c); r.code != 0 || r.err != "" {
		t.Fatalf("info ends with %d: %s", r.code, r.err)
	}
	if kib := c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; kib > 200<<10 {
		t.Errorf("the picture of 100 KB in 128 GiB took %d KiB of memory", kib)
	}
}
