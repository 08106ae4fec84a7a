package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"lazyfs/store"
)

// Every frame of a store is touched once, in random order, a frame at a time: with
// the kernel's caches empty, and with the store in the page cache.
const (
	coldMapping = "mapping cold"
	warmMapping = "mapping warm"
)

// measureMappings measures random first touches: of mappings of a store, of the
// plain file in mapped memory, and of a small handler of faults in C.
func (b *bench) measureMappings() error {
	image, plain := b.path("image.lazyfs", "image.lazy"), b.path("corpus", "image")
	options := []string{"--rw=randread", "--bs=16k", "--runtime=" + b.plan.Runtime.String(), "--output-format=json+"}
	for _, what := range []string{coldMapping, warmMapping} {
		for _, access := range []string{"view", "bytes", "readat"} {
			if err := b.ready(what, image); err != nil {
				return err
			}
			out, err := b.run(b.lazyfs, append([]string{"bench", "map", image, "--quiet", "--access=" + access}, options...)...)
			if err != nil {
				return err
			}
			if err := b.addMapping(what, mappingNames[access], out); err != nil {
				return err
			}
		}
		if err := b.ready(what, plain); err != nil {
			return err
		}
		// fio drops the file from the page cache unless it is told not to.
		keep := fmt.Sprintf("--invalidate=%d", map[string]int{coldMapping: 1}[what])
		out, err := b.run("fio", append([]string{"--name=mmap", "--filename=" + plain, "--ioengine=mmap", keep}, options...)...)
		if err != nil {
			return err
		}
		if err := b.addMapping(what, "plain file, mmap", out); err != nil {
			return err
		}
	}
	return b.measureHandler()
}

// ready empties the caches, or has the file in them.
func (b *bench) ready(what, file string) error {
	if what == coldMapping {
		return dropCaches()
	}
	_, err := b.run("cp", file, "/dev/null")
	return err
}

var mappingNames = map[string]string{
	"view":   "lazyfs, View",
	"bytes":  "lazyfs, Bytes",
	"readat": "lazyfs, store.ReadAt",
}

func (b *bench) addMapping(what, who, document string) error {
	j, err := parseFio(document)
	if err != nil {
		return err
	}
	b.addLatency(what, who, j)
	return nil
}

// measureHandler compiles test/yardstick's C program when there is a compiler, and
// asks it for the mean time of a fault that a thread of another process answers by
// decompressing a frame with lz4.
func (b *bench) measureHandler() error {
	const source = "test/yardstick/c/yardstick.c"
	program := b.path("yardstick")
	if !exists(program) {
		if _, err := b.run("cc", "-O2", "-o", program, source, "-llz4", "-lpthread"); err != nil {
			b.note("C handler: " + err.Error())
			return b.ctx.Err()
		}
	}
	c := exec.CommandContext(b.ctx, program, b.path("sample"), fmt.Sprint(store.DefaultFrameSize))
	c.Stdin = strings.NewReader("proc-rand\n")
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("fault handler in C: %w", err)
	}
	if us, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err == nil {
		b.figures.add(warmMapping+" mean", handlerName, us)
	}
	return nil
}

const handlerName = "C handler, lz4"

// note adds to what could not be compared with, once.
func (b *bench) note(text string) {
	if !slices.Contains(b.missing, text) {
		b.missing = append(b.missing, text)
	}
}

// codecs are the codecs and sizes of frames whose ratio and speed are measured.
var (
	codecs     = []string{"lz4", "zstd", "gzip"}
	frameSizes = []string{"4K", "16K", "64K", "256K"}
)

// measureCodecs packs the sample in each way, and reads pages of it anywhere. All
// of it is in the page cache, so that decompression is what is measured.
func (b *bench) measureCodecs() error {
	for _, codec := range codecs {
		for _, frame := range frameSizes {
			name := codec + " " + frame
			path := b.path("sample." + codec + frame)
			if !exists(path) {
				if _, err := b.run(b.lazyfs, "pack", "--quiet", "--codec", codec, "--frame", frame, b.path("sample"), path); err != nil {
					return err
				}
				ratio, err := b.ratio(path)
				if err != nil {
					return err
				}
				b.figures.add("ratio", name, ratio)
			}
			if err := b.ready(warmMapping, path); err != nil {
				return err
			}
			out, err := b.run(b.lazyfs, "bench", "map", path, "--quiet", "--access=readat", "--rw=randread", "--number_ios=4000", "--json")
			if err != nil {
				return err
			}
			j, err := parseFio(out)
			if err != nil {
				return err
			}
			b.figures.add("codec", name, j.Read.Clat.Mean/1e3)
		}
	}
	return nil
}

func (b *bench) ratio(path string) (float64, error) {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	i, err := s.Info()
	return i.Ratio(), err
}
