package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A work is what is measured of each peer, by a job of fio.
type work struct {
	job    string // in the folder jobs
	title  string // for people
	file   string // of the corpus
	writes bool
	unit   string // of the figure
	value  func(j *fioJob) float64
}

// works is all that is measured of mounts.
var works = []work{
	{"sequential", "sequential read, 128 KiB", "image", false, "MB/s", readMBps},
	{"random", "random read, 4 KiB", "image", false, "reads/s", func(j *fioJob) float64 { return j.Read.IOPS }},
	{"mmap", "random touch of mapped memory, 4 KiB", "image", false, "touches/s", func(j *fioJob) float64 { return j.Read.IOPS }},
	{"files", "all files of a tree", "tree", false, "MB/s", readMBps},
	{"mixed", "70 % reads, 30 % writes, 4 KiB, fsync of every 32nd", "scratch", true, "operations/s", func(j *fioJob) float64 { return j.Read.IOPS + j.Write.IOPS }},
	{"verify", "random write of a file, 16 KiB, and sync", "verified", true, "MB/s", func(j *fioJob) float64 { return j.Write.Bytes / 1e6 }},
}

func readMBps(j *fioJob) float64 { return j.Read.Bytes / 1e6 }

// A fioJob is what is used of a job in fio's document.
type fioJob struct {
	Read  fioTraffic `json:"read"`
	Write fioTraffic `json:"write"`
}

type fioTraffic struct {
	Bytes float64 `json:"bw_bytes"` // a second
	IOPS  float64 `json:"iops"`
	Clat  struct {
		Mean       float64            `json:"mean"` // nanoseconds
		Percentile map[string]float64 `json:"percentile"`
		Bins       map[string]float64 `json:"bins"`
	} `json:"clat_ns"`
}

// parseFio reads a document of fio, or of lazyfs bench.
func parseFio(text string) (*fioJob, error) {
	// fio prints notes before the document.
	if i := strings.Index(text, "{"); i > 0 {
		text = text[i:]
	}
	var d struct {
		Jobs []fioJob `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("read fio's document: %w", err)
	}
	if len(d.Jobs) != 1 {
		return nil, fmt.Errorf("fio's document has %d jobs, want 1", len(d.Jobs))
	}
	return &d.Jobs[0], nil
}

// measurePeers does each work once on each peer.
func (b *bench) measurePeers() error {
	for _, w := range works {
		for _, p := range b.peers {
			if w.writes && !p.Writable {
				continue
			}
			if err := b.measureWork(w, p); err != nil {
				return fmt.Errorf("%s, %s: %w", p.Name, w.job, err)
			}
		}
	}
	return nil
}

func (b *bench) measureWork(w work, p *peer) error {
	file := filepath.Join(p.dir, w.file)
	if err := b.remount(p, w.writes); err != nil {
		return err
	}
	if w.job == "verify" {
		os.Remove(file)
	}
	if err := dropCaches(); err != nil {
		return err
	}
	env := []string{"FILE=" + file, "SIZE=" + fmt.Sprint(b.plan.Scratch), "RUNTIME=" + fmt.Sprint(int(b.plan.Runtime.Seconds()))}
	out, err := b.runWith(env, "fio", "--output-format=json+", filepath.Join("test/bench/jobs", w.job+".fio"))
	if err != nil {
		return err
	}
	j, err := parseFio(out)
	if err != nil {
		return err
	}
	b.figures.add(w.job, p.Name, w.value(j))
	if w.job == "random" || w.job == "mmap" {
		b.addLatency(w.job, p.Name, j)
	}
	return nil
}

// addLatency keeps what is drawn of latencies.
func (b *bench) addLatency(job, who string, j *fioJob) {
	b.figures.add(job+" mean", who, j.Read.Clat.Mean/1e3)
	b.figures.add(job+" p50", who, j.Read.Clat.Percentile["50.000000"]/1e3)
	b.figures.add(job+" p99", who, j.Read.Clat.Percentile["99.000000"]/1e3)
	for ns, n := range j.Read.Clat.Bins {
		if v, err := strconv.ParseFloat(ns, 64); err == nil {
			b.figures.addBin(job, who, v/1e3, n)
		}
	}
}

func allocated(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Blocks * 512, nil
}
