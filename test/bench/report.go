package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// writeReport writes report.md, report.json and the pictures.
func (b *bench) writeReport(out string) error {
	drawn, err := b.drawPictures(out)
	if err != nil {
		return err
	}
	document, err := json.MarshalIndent(map[string]any{
		"time": b.start.Format(time.RFC3339), "machine": describeMachine(), "plan": b.plan, "rounds": b.rounds, "corpus_bytes": b.corpusSize(),
		"peers": b.peers, "figures": b.figures, "missing": b.missing,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "report.json"), append(document, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "report.md"), []byte(b.text(drawn)), 0o644)
}

func describeMachine() string {
	var u unix.Utsname
	unix.Uname(&u)
	model := "processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("Linux %s, %d cores of %s", unix.ByteSliceToString(u.Release[:]), cores, model)
}

// how says how the figures came about.
func (b *bench) how() string {
	of := fmt.Sprintf("Medians of %d rounds", b.rounds)
	if b.rounds < b.plan.Rounds {
		of = fmt.Sprintf("Interrupted in round %d of %d: medians of what was measured", b.rounds+1, b.plan.Rounds)
	}
	return of + ", with the least and the greatest; " + describeMachine()
}

// corpusSize is what the files of the corpus that are packed occupy, in bytes.
func (b *bench) corpusSize() int64 {
	n, err := diskUsage(b.path("corpus"))
	if err != nil {
		return 0
	}
	return n
}

// text is report.md.
func (b *bench) text(drawn []picture) string {
	var t strings.Builder
	fmt.Fprintf(&t, "# lazyfs beside others\n\n%s. %s, %v a measurement at most.\n\n", b.how(), b.start.Format(time.DateOnly), b.plan.Runtime)
	fmt.Fprintf(&t, "The corpus is a file of %s and %d small files, mostly programs and source text, on the disk %s. Mounts are measured cold: newly mounted, the kernel's caches empty. No page is asked for twice, but what a file system reads beyond what it is asked for pays off later.\n\n",
		bytesText(b.plan.Image), b.plan.Files, bytesText(b.corpusSize()))
	t.WriteString("## Mounts\n\n| | on disk |")
	for _, w := range works {
		fmt.Fprintf(&t, " %s, %s |", w.title, w.unit)
	}
	t.WriteString("\n|---|" + strings.Repeat("---|", len(works)+1) + "\n")
	for _, p := range b.peers {
		fmt.Fprintf(&t, "| **%s** (%s) | %s |", p.Name, p.About, bytesText(p.Stored))
		for _, w := range works {
			fmt.Fprintf(&t, " %s |", b.cell(w.job, p.Name))
		}
		t.WriteByte('\n')
	}
	b.latencyTable(&t, "random", "Random read of a mount, 4 KiB")
	b.latencyTable(&t, "mmap", "Random touch of a mount's mapped file, 4 KiB")
	b.latencyTable(&t, coldMapping, "Random touch of a mapping, 16 KiB, from the disk")
	b.latencyTable(&t, warmMapping, "Random touch of a mapping, 16 KiB, from the page cache")
	t.WriteString("\n## Codecs\n\nA random read of 4 KiB with no cache but the kernel's, so that each decompresses a frame.\n\n| | ratio | mean, µs |\n|---|---|---|\n")
	for _, codec := range codecs {
		for _, frame := range frameSizes {
			name := codec + " " + frame
			if !b.figures.has("codec", name) {
				continue
			}
			fmt.Fprintf(&t, "| %s | %.2f | %s |\n", name, b.figures.of("ratio", name).Median, b.cell("codec", name))
		}
	}
	for _, p := range drawn {
		fmt.Fprintf(&t, "\n## %s\n\n![%s](%s)\n", p.caption, p.caption, p.file)
	}
	if len(b.missing) > 0 {
		t.WriteString("\n## Not compared with\n\n")
		for _, m := range b.missing {
			fmt.Fprintf(&t, "- %s\n", m)
		}
	}
	return t.String()
}

func (b *bench) latencyTable(t *strings.Builder, what, title string) {
	fmt.Fprintf(t, "\n## %s\n\n| | mean, µs | p50, µs | p99, µs |\n|---|---|---|---|\n", title)
	for _, name := range b.who(what + " mean") {
		fmt.Fprintf(t, "| %s |", name)
		for _, kind := range []string{" mean", " p50", " p99"} {
			fmt.Fprintf(t, " %s |", b.cell(what+kind, name))
		}
		t.WriteByte('\n')
	}
}

// cell is a median and its spread.
func (b *bench) cell(what, who string) string {
	if !b.figures.has(what, who) {
		return "–"
	}
	s := b.figures.of(what, who)
	return fmt.Sprintf("%s (%s–%s)", short(s.Median), short(s.Min), short(s.Max))
}

// short writes a figure with three digits or so.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}
