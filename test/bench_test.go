package test

import (
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The benchmark that the README shows exists with the flags shown, and so does the
// picture.
func TestDocumentedBenchmark(t *testing.T) {
	readme := string(read(t, "../README.md"))
	var lines [][]string
	for line := range strings.Lines(strings.Join(fenced(readme, "sh"), "")) {
		lines = append(lines, commandLines("test/bench/run", strings.TrimSpace(line))...)
	}
	if len(lines) == 0 {
		t.Fatal("README.md shows no use of test/bench/run")
	}
	if info, err := os.Stat("bench/run"); err != nil || info.Mode()&0o111 == 0 {
		t.Fatalf("test/bench/run: %v, %v; want a program", info, err)
	}
	program := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-o", program, "lazyfs/test/bench").CombinedOutput(); err != nil {
		t.Fatalf("build test/bench: %v\n%s", err, out)
	}
	help := finish(t, exec.Command(program, "-h")).err
	for _, args := range lines {
		for _, flag := range args {
			if !strings.Contains(help, "\n  -"+strings.TrimLeft(flag, "-")) {
				t.Errorf("test/bench/run has no flag %s", flag)
			}
		}
	}
	pictures := regexp.MustCompile(`!\[[^]]*\]\(([^)]+)\)`).FindAllStringSubmatch(readme, -1)
	if len(pictures) == 0 {
		t.Error("README.md shows no picture")
	}
	for _, m := range pictures {
		f, err := os.Open("../" + m[1])
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := png.Decode(f); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
		f.Close()
	}
}

// fio accepts every job file.
func TestBenchmarkJobs(t *testing.T) {
	dir := t.TempDir()
	jobs, err := filepath.Glob("bench/jobs/*.fio")
	if err != nil || len(jobs) < 6 {
		t.Fatalf("jobs %v, error %v", jobs, err)
	}
	for _, job := range jobs {
		c := exec.Command("fio", "--parse-only", job)
		c.Env = append(os.Environ(), "FILE="+dir, "SIZE=1m", "RUNTIME=1")
		if r := finish(t, c); r.code != 0 {
			t.Errorf("%s: exit code %d, %s%s", job, r.code, r.out, r.err)
		}
	}
}

// A whole benchmark leaves a report, and nothing else.
func TestBenchmark(t *testing.T) {
	if os.Getenv("LAZYFS_LONG") == "" {
		t.Skip("takes a minute: LAZYFS_LONG=1 runs it")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	out, temp := t.TempDir(), t.TempDir()
	c := exec.Command("bench/run", "--quick", "--rounds", "1", "--out", out)
	c.Env = append(os.Environ(), "TMPDIR="+temp)
	if r := finish(t, c); r.code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	report := string(read(t, out+"/report.md"))
	for _, want := range []string{"| **lazyfs** (", "## Codecs", "](latency.png)"} {
		if !strings.Contains(report, want) {
			t.Errorf("report.md lacks %q", want)
		}
	}
	parse(t, string(read(t, out+"/report.json")))
	if left := list(t, temp); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}
