package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine does works.
type machine struct {
	folder string         // of the stores, and of the yardstick's program
	sticks map[int]*stick // by the size of their frames
}

// A stick is a running yardstick, which answers each name of a work with a figure.
type stick struct {
	cmd *exec.Cmd
	ask io.WriteCloser
	say *bufio.Reader
}

func (m *machine) program() string { return filepath.Join(m.folder, "yardstick") }

// compile makes the yardstick's program.
func (m *machine) compile() error {
	out, err := exec.Command("cc", "-O2", "-o", m.program(), "test/yardstick/c/yardstick.c", "-llz4", "-lpthread").CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(string(out), "\n")
		return fmt.Errorf("compile test/yardstick/c/yardstick.c: %w: %s", err, first)
	}
	return nil
}

// measure does one work. NaN is a figure that is not to be had.
func (m *machine) measure(w work) (float64, error) {
	if w.c {
		return m.yardstick(w)
	}
	c := exec.Command("/proc/self/exe", m.folder)
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s/%d", workEnv, w.name, w.frame))
	c.Stderr = os.Stderr
	var out bytes.Buffer
	c.Stdout = &out
	if err := start(c, w.pin); err != nil {
		return 0, err
	}
	if err := c.Wait(); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(out.String()), 64)
}

// start starts c, where pin says so on the first core alone; its children will
// run there, too.
func start(c *exec.Cmd, pin bool) error {
	if !pin {
		return c.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(c.Start(), unix.SchedSetaffinity(0, &all))
}

// yardstick asks the yardstick for a figure.
func (m *machine) yardstick(w work) (float64, error) {
	if _, err := os.Stat(m.program()); err != nil {
		return math.NaN(), nil
	}
	s := m.sticks[w.frame]
	if s == nil {
		var err error
		if s, err = m.startStick(w.frame); err != nil {
			return 0, err
		}
		m.sticks[w.frame] = s
	}
	if _, err := fmt.Fprintln(s.ask, w.name); err != nil {
		return 0, err
	}
	answer, err := s.say.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if answer = strings.TrimSpace(answer); answer == "failed" {
		return math.NaN(), nil
	}
	return strconv.ParseFloat(answer, 64)
}

func (m *machine) startStick(frame int) (*stick, error) {
	c := exec.Command(m.program(), filepath.Join(m.folder, "plain"), strconv.Itoa(frame))
	c.Stderr = os.Stderr
	ask, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	say, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &stick{c, ask, bufio.NewReader(say)}, c.Start()
}

// close ends the yardsticks.
func (m *machine) close() {
	for _, s := range m.sticks {
		s.ask.Close()
		s.cmd.Wait()
	}
}
