package test

import (
	"encoding/json"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fio runs Debian's fio and returns its output. The first argument is --name:
// what stands before it is for all jobs, and reported elsewhere.
func fio(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("fio", append(args, "--ioengine=psync")...)
	c.Dir = dir
	r := finish(t, c)
	if r.code != 0 {
		t.Fatalf("fio %q: exit code %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// parse reads a JSON document.
func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return d
}

// flatten returns the fields of a document by their paths.
func flatten(path string, v any, into map[string]any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			flatten(path+"/"+name, field, into)
		}
	case []any:
		for _, field := range v {
			flatten(path+"[]", field, into)
		}
	default:
		into[path] = v
	}
	return into
}

// The JSON document has all fields of fio's and no others, with values of the same
// types, and what the options decide is the same number.
func TestBenchJSONIsFios(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20+1000))
	for _, args := range []string{
		"--rw=read --bs=16k",
		"--rw=randread --bs=4k --number_ios=100",
		"--rw=randread --bs=4k --io_size=3m --numjobs=3 --group_reporting",
		"--rw=randread --bs=4k --size=1m --random_distribution=zipf:1.2 --norandommap --randseed=7",
		"--rw=write --bs=8k --size=512k --offset=64k --fsync=10",
		"--rw=randwrite --bs=4k --verify=crc32c",
		"--rw=randrw --bs=4k --rwmixread=70 --fsync=5 --thinktime=1",
	} {
		t.Run(args, func(t *testing.T) {
			options := append([]string{"--name=job", "--output-format=json"}, strings.Fields(args)...)
			bench := append([]string{"bench", "file", "plain"}, options...)
			if strings.Contains(args, "write") || strings.Contains(args, "randrw") {
				bench = append(bench, "--overwrite")
			}
			theirs := flatten("", parse(t, fio(t, dir, append(options, "--filename=plain")...)), map[string]any{})
			ours := flatten("", parse(t, must(t, dir, bench...)), map[string]any{})
			compareDocuments(t, theirs, ours, strings.Contains(args, "randrw"))
		})
	}
}

// sameInBoth are the fields whose values the options decide.
var sameInBoth = []string{"io_bytes", "io_kbytes", "total_ios", "short_ios", "drop_ios", "N", "jobname", "groupid", "error"}

func compareDocuments(t *testing.T, theirs, ours map[string]any, mixed bool) {
	t.Helper()
	aside := func(path string) bool {
		// The options differ by name; the disks are the machine's; samples and
		// what is below them only exist in longer runs.
		return strings.Contains(path, "/job options/") || strings.HasPrefix(path, "/disk_util")
	}
	for path, want := range theirs {
		got, ok := ours[path]
		switch {
		case aside(path):
		case !ok:
			t.Errorf("%s: fio has it, %v", path, want)
		case reflect.TypeOf(got) != reflect.TypeOf(want):
			t.Errorf("%s: is %v, fio has %v", path, got, want)
		case slices.Contains(sameInBoth, filepath.Base(path)) && !mixed && got != want:
			t.Errorf("%s: is %v, fio has %v", path, got, want)
		}
	}
	for path, got := range ours {
		if _, ok := theirs[path]; !ok && !aside(path) {
			t.Errorf("%s: is %v, fio does not have it", path, got)
		}
	}
	if mixed {
		return
	}
	for _, path := range []string{"/jobs[]/job options/bs", "/jobs[]/job options/rw", "/jobs[]/job options/name"} {
		if got, want := ours[path], theirs[path]; !strings.EqualFold(got.(string), want.(string)) {
			t.Errorf("%s: is %v, fio has %v", path, got, want)
		}
	}
}

// Each of bench and fio verifies what the other has written, and notices a change.
func TestBenchVerifiesWithFio(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "bench", "file", "ours", "--rw=randwrite", "--bs=4k", "--size=1m", "--verify=crc32c")
	fio(t, dir, "--name=v", "--filename=ours", "--rw=read", "--bs=4k", "--size=1m", "--verify=crc32c")
	damage := func(name string) {
		b := read(t, dir+"/"+name)
		b[5*4096+1000] ^= 1
		write(t, dir+"/"+name, b)
	}
	damage("ours")
	c := exec.Command("fio", "--name=v", "--filename="+dir+"/ours", "--rw=read", "--bs=4k", "--size=1m", "--verify=crc32c", "--ioengine=psync")
	c.Dir = dir
	if r := finish(t, c); r.code == 0 {
		t.Error("fio does not see a changed byte")
	}
	fio(t, dir, "--name=v", "--filename=theirs", "--rw=randwrite", "--bs=4k", "--size=1m", "--verify=crc32c", "--do_verify=0")
	must(t, dir, "bench", "file", "theirs", "--rw=randread", "--bs=4k", "--verify=crc32c")

	damage("theirs")
	r := lazyfs(t, dir, "bench", "file", "theirs", "--rw=read", "--bs=4k", "--verify=crc32c")
	failed(t, r, 1, "lazyfs bench: verify block at offset 0x5000: checksum is ")
	if !strings.Contains(r.out, "issued rwts: total=6,0") {
		t.Errorf("what was measured until the wrong block is not printed:\n%s", r.out)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	c = command(dir, "bench", "file", "theirs", "--rw=read", "--verify=crc32c")
	c.Stdout = full
	if err := c.Run(); c.ProcessState.ExitCode() != 3 {
		t.Errorf("a wrong block, and a report that can't be written: %v, want exit code 3", err)
	}
}

// Nothing that exists is overwritten unless that is asked for.
func TestBenchOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 200000)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	packed := read(t, dir+"/x.lazy")
	fails(t, dir, 3, "lazyfs bench: plain: holds something: --overwrite lets the jobs write over it", "bench", "file", "plain", "--rw=write")
	// A disk's size is 0, too, for who asks for that of a file.
	fails(t, dir, 3, "lazyfs bench: /dev/zero: holds something: ", "bench", "file", "/dev/zero", "--rw=write", "--size=4k")
	fails(t, dir, 2, "lazyfs bench: --access readat: writes go to the store: --overwrite allows it", "bench", "map", "x.lazy", "--rw=write", "--access=readat")
	for _, access := range []string{"view", "bytes"} {
		for _, tracking := range []string{"auto", "none"} {
			must(t, dir, "bench", "map", "x.lazy", "--rw=randrw", "--access="+access, "--tracking="+tracking, "--verify=crc32c")
		}
	}
	if string(read(t, dir+"/plain")) != string(plain) || string(read(t, dir+"/x.lazy")) != string(packed) {
		t.Fatal("a file has changed")
	}
	for _, access := range []string{"view", "bytes", "readat"} {
		must(t, dir, "bench", "map", "x.lazy", "--rw=randwrite", "--access="+access, "--overwrite", "--verify=crc32c", "--fsync=20", "--memory-limit=1m")
		must(t, dir, "bench", "map", "x.lazy", "--rw=randread", "--access="+access, "--verify=crc32c", "--size=192k")
		must(t, dir, "check", "x.lazy")
	}
}

// A new file that can't be as large as it has to be is not left behind.
func TestBenchLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command("sh", "-c", `ulimit -f 8; exec "$0" bench file --rw=write --size=1M new`, binary)
	c.Dir = dir
	failed(t, finish(t, c), 3, "lazyfs bench: truncate new: file too large\n")
	if got := list(t, dir); len(got) != 0 {
		t.Errorf("bench left %q", got)
	}
}

// A damaged frame is an error of the run, however it is reached.
func TestBenchDamage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 10*16384))
	must(t, dir, "pack", "plain", "x.lazy")
	damageFrame(t, dir+"/x.lazy", 7)
	for _, access := range []string{"view", "bytes", "readat"} {
		r := lazyfs(t, dir, "bench", "map", "x.lazy", "--access="+access)
		if r.code != 3 || !strings.Contains(r.err, "frame 7") || !strings.Contains(r.out, "READ: bw=") {
			t.Errorf("access %s: exit code %d, %q, %q; want 3, frame 7 and a report", access, r.code, r.err, r.out)
		}
	}
}

// Ctrl-C ends a run, which prints what it has measured.
func TestBenchInterrupt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	must(t, dir, "pack", "plain", "x.lazy")
	user, tty := openTerminal(t)
	var s screen
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.watch(user)
	}()
	c := command(dir, "bench", "map", "x.lazy", "--rw=randread", "--time_based", "--runtime=1h", "--output=report", "--json")
	c.Env = append(os.Environ(), "TERM=xterm")
	c.Stderr = tty
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	eventually(t, "progress is shown", func() bool { return strings.Contains(s.String(), " left") })
	c.Process.Signal(unix.SIGINT)
	c.Wait()
	<-ended
	if code := c.ProcessState.ExitCode(); code != 3 || !strings.Contains(s.String(), "lazyfs bench: interrupted") {
		t.Errorf("exit code %d, terminal %q; want 3 and interrupted", code, s.String())
	}
	d := parse(t, string(read(t, dir+"/report")))
	if n := flatten("", d, map[string]any{})["/jobs[]/read/total_ios"].(float64); n < 1 {
		t.Errorf("%v reads are reported", n)
	}
}

// Pictures of frames and of pages are pictures.
func TestMapPictures(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", append(text(1, 300000), make([]byte, 300000)...))
	must(t, dir, "pack", "plain", "x.lazy")
	write(t, dir+"/nothing", nil)
	must(t, dir, "pack", "nothing", "empty.lazy")
	for _, args := range []string{
		"info --map=a.png x.lazy",
		"info --map=a.png empty.lazy",
		"bench map x.lazy --map=a.png --rw=randrw --number_ios=20",
		"bench map x.lazy --map=a.png --rw=randrw --access=bytes --memory-limit=64k",
	} {
		os.Remove(dir + "/a.png")
		must(t, dir, strings.Fields(args)...)
		f, err := os.Open(dir + "/a.png")
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		if p, err := png.Decode(f); err != nil || p.Bounds().Dx() < 500 || p.Bounds().Dy() < 100 {
			t.Errorf("%s: %v, %v", args, p, err)
		}
		f.Close()
	}
}

// Wrong options are named, and nothing is made or changed.
func TestBenchBadUsage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/empty", nil)
	write(t, dir+"/x", text(1, 100000))
	must(t, dir, "pack", "x", "x.lazy")
	for args, line := range map[string]string{
		"disk x":                       `"disk": want map or file`,
		"file":                         "1 argument given: usage is lazyfs bench [flags] map STORE or file PATH\n",
		"file x --rw=trim":             "--rw trim: want read, write, rw, randread, randwrite or randrw",
		"file x --bs=0":                "--bs 0: want ",
		"file x --bs=64k --offset=90k": "--bs 65536: there are only 7840 bytes to work on",
		"file new --rw=randwrite --size=10 --bs=4k":               "--bs 4096: there are only 10 bytes to work on",
		"file new --rw=write --size=1m --bs=64k --io_size=4k":     "--io_size 4096: is less than a block of 65536 bytes",
		"file empty --rw=write --offset=64k":                      "--offset 65536: there are 0 bytes",
		"file empty --rw=write --offset=64k --size=1k":            "--bs 4096: there are only 1024 bytes to work on",
		"file x --size=1m":                                        "--size 1048576: there are 100000 bytes behind offset 0",
		"file x --numjobs=0":                                      "--numjobs 0: want 1 to 1024",
		"file x --rwmixread=200":                                  "--rwmixread 200: want 0 to 100",
		"file x --time_based":                                     "--time_based: needs runtime",
		"file x --runtime=soon":                                   "--runtime soon: want a time such as 10, 10s, 500ms or 2m",
		"file x --random_distribution=zipf:1":                     "--random_distribution zipf:1: want random or zipf:THETA",
		"file x --random_distribution=zipf:2":                     "--random_distribution zipf:2: rw read is not random",
		"file x --verify=md5":                                     "--verify md5: want crc32c",
		"file x --output-format=xml":                              "--output-format xml: want normal, json, json+",
		"file x --json --output-format=normal":                    "--json: contradicts --output-format normal",
		"file x --access=view":                                    "--access: has no meaning with file",
		"file x --map=a.png":                                      "--map: has no meaning with file",
		"map x.lazy --access=mmap":                                "--access mmap: want view, bytes, readat",
		"map x.lazy --tracking=sync":                              "--tracking sync: --rw read does not write",
		"map x.lazy --rw=write --tracking=sync":                   "--tracking sync: --access view does not have it",
		"map x.lazy --rw=write --fsync=3":                         "--fsync: has no meaning without --overwrite",
		"map x.lazy --access=readat --map=a.png":                  "--map: --access readat keeps no pages in memory",
		"map x.lazy --blocksize=4k":                               "unknown flag --blocksize: lazyfs bench --help shows the flags",
		"map x.lazy --memory-limit=1m --rw=write --tracking=none": "--tracking none: --memory-limit needs to know what was written",
	} {
		fails(t, dir, 2, "lazyfs bench: "+line, append([]string{"bench"}, strings.Fields(args)...)...)
	}
	fails(t, dir, 3, "lazyfs bench: new: does not exist: --size says how large to make it\n", "bench", "file", "new", "--rw=write", "--offset=64k")
	if got := list(t, dir); !slices.Equal(got, []string{"empty", "x", "x.lazy"}) || sizeOf(t, dir+"/empty") != 0 {
		t.Errorf("folder holds %q, and empty has %d bytes", got, sizeOf(t, dir+"/empty"))
	}
	fails(t, dir, 2, "lazyfs info: --map: draws one store, 2 are given", "info", "--map=a.png", "x.lazy", "x.lazy")
}
