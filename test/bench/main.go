// Command bench measures lazyfs beside other file systems; test/bench/run builds
// and starts it.
//
// It makes a corpus, gives it to each file system that the machine has, and then
// measures all of them in turn, round after round, so that all meet the machine
// in the same moods. What is measured cold starts with a new mount and empty
// caches. The figures are medians, with the least and the greatest beside them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A plan says how much is measured.
type plan struct {
	Rounds  int           `json:"rounds"`
	Runtime time.Duration `json:"runtime_ns"`    // of one measurement at most
	Image   int64         `json:"image_bytes"`   // of the large file
	Files   int           `json:"files"`         // in the tree
	Scratch int64         `json:"scratch_bytes"` // of the file that is written
	Sample  int64         `json:"sample_bytes"`  // of what codecs are measured with
}

var (
	quickPlan = plan{Rounds: 2, Runtime: time.Second, Image: 96 << 20, Files: 1000, Scratch: 16 << 20, Sample: 8 << 20}
	fullPlan  = plan{Rounds: 5, Runtime: 5 * time.Second, Image: 1 << 30, Files: 8000, Scratch: 128 << 20, Sample: 64 << 20}
)

// packages are the Debian packages with what lazyfs is compared with.
var packages = strings.Fields("fio squashfs-tools squashfuse erofs-utils btrfs-progs gocryptfs fuse3 gcc libc6-dev liblz4-dev")

func main() {
	quick := flag.Bool("quick", false, "measure less, in two to three minutes")
	install := flag.Bool("install", false, "install Debian's packages of what is compared with: "+strings.Join(packages, " "))
	out := flag.String("out", "bench-report", "write the report and its pictures into `FOLDER`")
	rounds := flag.Int("rounds", 0, "measure everything `N` times (default 5, with --quick 2)")
	bin := flag.String("bin", "bin/lazyfs", "the lazyfs `PROGRAM` to measure")
	flag.Parse()
	p := fullPlan
	if *quick {
		p = quickPlan
	}
	if *rounds > 0 {
		p.Rounds = *rounds
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, p, *install, *bin, *out); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, install bool, bin, out string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it mounts file systems and empties caches")
	}
	if install {
		if err := installPackages(ctx); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("fio"); err != nil {
		return errors.New("needs fio: --install installs it")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	m, err := newMachine(ctx, bin)
	if err != nil {
		return err
	}
	b := &bench{machine: m, plan: p, start: time.Now(), figures: figures{}}
	err = b.all(out)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, m.cleanUp())
}

func installPackages(ctx context.Context) error {
	for _, args := range [][]string{{"-qq", "update"}, append([]string{"-qq", "-y", "--no-install-recommends", "install"}, packages...)} {
		c := exec.CommandContext(ctx, "apt-get", args...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

// A bench is one run.
type bench struct {
	*machine
	plan    plan
	start   time.Time
	figures figures
	rounds  int // that are complete
	peers   []*peer
	missing []string // what could not be compared with, and why
}

// all makes the corpus, measures everything, and writes the report. When it is
// interrupted, the report has what was measured until then.
func (b *bench) all(out string) error {
	b.say("making a corpus of %d MB and %d files", b.plan.Image/1e6, b.plan.Files)
	if err := makeCorpus(b.machine, b.plan); err != nil {
		return err
	}
	if err := b.preparePeers(); err != nil {
		return err
	}
	err := b.measure()
	if err != nil && (b.ctx.Err() == nil || len(b.figures) == 0) {
		return err
	}
	b.say("writing the report to %s", out)
	return errors.Join(b.writeReport(out), err)
}

// measure measures everything, round after round.
func (b *bench) measure() error {
	start := time.Now()
	for b.rounds < b.plan.Rounds {
		left := ""
		if b.rounds > 0 {
			each := time.Since(start) / time.Duration(b.rounds)
			left = fmt.Sprintf(", about %.0f s left", (each * time.Duration(b.plan.Rounds-b.rounds)).Seconds())
		}
		b.say("round %d of %d%s", b.rounds+1, b.plan.Rounds, left)
		for _, measure := range []func() error{b.measurePeers, b.measureMappings, b.measureCodecs} {
			if err := measure(); err != nil {
				return err
			}
		}
		b.rounds++
	}
	return nil
}

// say tells what is being done, and how long the run has taken.
func (b *bench) say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%4.0f s  %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, a...))
}
