package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lazyfs/codec"
)

const readerEnv = "LAZYFS_TEST_READER"

// TestReaderProcess is the other process of the test below; on its own it does
// nothing. It opens a store over and over; each time it reads all of it a few
// times, and prints the generation and the checksum of what it read. Bytes that
// change meanwhile are the end of it, and so is the end of its input.
func TestReaderProcess(t *testing.T) {
	path := os.Getenv(readerEnv)
	if path == "" {
		return
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for n := 1; ; n = n*3%101 + 1 {
		s, err := Open(path, Options{})
		if err != nil {
			fmt.Println("open:", err)
			os.Exit(1)
		}
		var first [sha256.Size]byte
		for pass := range n {
			h := sha256.New()
			_, err := io.Copy(h, io.NewSectionReader(s, 0, s.Size()))
			sum := [sha256.Size]byte(h.Sum(nil))
			if pass == 0 {
				first = sum
				fmt.Printf("%d %x\n", s.Generation(), sum)
			}
			if err != nil || sum != first {
				fmt.Printf("generation %d changes in pass %d: %v\n", s.Generation(), pass, err)
				os.Exit(1)
			}
		}
		s.Close()
	}
}

// A readerProcess is another process that reads a store.
type readerProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	says chan string // closed at its end
}

func startReader(t *testing.T, path string) *readerProcess {
	t.Helper()
	p := &readerProcess{cmd: exec.Command("/proc/self/exe", "-test.run=^TestReaderProcess$"), says: make(chan string, 1<<16)}
	p.cmd.Env = append(os.Environ(), readerEnv+"="+path)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.in = in
	must(t, p.cmd.Start())
	t.Cleanup(p.kill)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.says <- lines.Text()
		}
		close(p.says)
	}()
	return p
}

// kill ends the process with SIGKILL; when it returns the process is gone.
func (p *readerProcess) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// Readers in other processes see a generation from its beginning to its end, byte
// for byte, and go on seeing it, while a writer overwrites, punches, truncates,
// commits, compacts, closes and opens the store; and space that readers held is
// given back when they are killed.
func TestReadersBesideWriter(t *testing.T) {
	frames, last := int64(1200), 3*time.Second
	if testing.Short() {
		last = time.Second
	}
	if os.Getenv("LAZYFS_LONG") != "" {
		frames, last = 8000, 3*time.Minute
	}
	w := newReadersWriter(t, frames)
	var busy sync.WaitGroup
	end := time.Now().Add(last)
	var mu sync.Mutex
	said, killed := map[string]int{}, 0
	for i := range 3 {
		busy.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 5))
			for time.Now().Before(end) {
				p := startReader(t, w.path)
				life := time.After(min(time.Until(end), time.Duration(r.Int64N(int64(last)))))
				for alive := true; alive; {
					select {
					case line, more := <-p.says:
						mu.Lock()
						said[line]++
						mu.Unlock()
						alive = more
					case <-life:
						alive = false
					}
				}
				p.kill()
				mu.Lock()
				killed++
				for line := range p.says {
					said[line]++
				}
				mu.Unlock()
			}
		})
	}
	for time.Now().Before(end) {
		w.step()
	}
	busy.Wait()
	delete(said, "")
	generations := map[uint64]bool{}
	for line := range said {
		var gen uint64
		fmt.Sscan(line, &gen)
		if line != fmt.Sprintf("%d %x", gen, w.sums[gen]) {
			t.Errorf("a reader says %q, want the bytes of one of %d generations", line, len(w.sums))
		}
		generations[gen] = true
	}
	t.Logf("%d readers, all killed, saw %d of %d generations; what the writer did: %v; the file took %d bytes at most, of which %d were in use",
		killed, len(generations), w.s.Generation(), w.did, w.most, w.used)
	w.finish()
}

// A readersWriter changes a store at random and notes what each generation holds.
type readersWriter struct {
	t          *testing.T
	path       string
	s          *Store
	maker      *stepMaker
	want       *plainFile
	sums       map[uint64][sha256.Size]byte
	did        map[string]int
	most, used int64
}

func newReadersWriter(t *testing.T, frames int64) *readersWriter {
	w := &readersWriter{t: t, path: filepath.Join(t.TempDir(), "s.lazy"), want: newPlainFile(nil),
		sums: map[uint64][sha256.Size]byte{}, did: map[string]int{}}
	w.maker = &stepMaker{r: rand.New(rand.NewPCG(randomSeed(t), 0)), frame: MinFrameSize, frames: frames, weights: []weight{
		{"write", 1000}, {"frames", 100}, {"punch", 100}, {"truncate", 1}, {"sync", 20}, {"commit", 20}, {"compact", 1}, {"close", 2}}}
	var err error
	w.s, err = Create(w.path, CreateOptions{FrameSize: MinFrameSize, DirtyBytes: 64 * MinFrameSize})
	must(t, err)
	t.Cleanup(func() { w.s.Discard() })
	for i := range frames {
		must(t, step{what: "write", off: i * MinFrameSize, n: MinFrameSize, seed: 1 + uint64(i)%2}.do(w.s, w.want))
	}
	w.sums[1] = sha256.Sum256(nil)
	must(t, w.s.Sync())
	w.note()
	return w
}

func (w *readersWriter) step() {
	w.t.Helper()
	st := w.maker.step()
	switch st.what {
	case "truncate": // Most of it stays.
		st.off = w.want.size * 9 / 10
	case "compact":
		st.codec = []codec.ID{0, codec.LZ4, codec.Zstd}[st.seed%3]
	}
	w.did[st.what]++
	if st.what == "close" {
		must(w.t, w.s.Close())
		s, err := Open(w.path, Options{Writable: true, DirtyBytes: 64 * MinFrameSize})
		must(w.t, err)
		w.s = s
	} else {
		must(w.t, st.do(w.s, w.want))
	}
	w.note()
	if st.what == "sync" {
		info, err := w.s.Info()
		must(w.t, err)
		w.most, w.used = max(w.most, info.DiskSize), info.FileSize-info.FreeSize
		if err := w.s.spaceFault(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// note notes what the generations hold that the last step made: nothing but what
// there is now.
func (w *readersWriter) note() {
	gen := w.s.Generation()
	if _, known := w.sums[gen]; known {
		return
	}
	h := sha256.New()
	b := make([]byte, 256<<10)
	for off := int64(0); off < w.want.size; off += int64(len(b)) {
		part := b[:min(int64(len(b)), w.want.size-off)]
		w.want.read(part, off)
		h.Write(part)
	}
	for ; gen > 0; gen-- {
		if _, known := w.sums[gen]; known {
			return
		}
		w.sums[gen] = [sha256.Size]byte(h.Sum(nil))
	}
}

// finish looks at the store when no reader is left.
func (w *readersWriter) finish() {
	w.t.Helper()
	must(w.t, w.s.Compact(context.Background(), CompactOptions{}))
	must(w.t, w.s.Close())
	s, err := Open(w.path, Options{})
	must(w.t, err)
	defer s.Close()
	info, err := s.Info()
	must(w.t, err)
	wantTight(w.t, "readers are gone", info)
	if diff := w.want.diff(s); diff != "" {
		w.t.Error(diff)
	}
	for _, d := range checked(w.t, s) {
		w.t.Error(d)
	}
}
