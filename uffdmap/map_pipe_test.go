package uffdmap

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A named pipe is no store, and nobody waits for its writer.
func TestMapNamedPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.lazy")
	must(t, "make a pipe", unix.Mkfifo(pipe, 0o600))
	mapped := make(chan error, 1)
	go func() {
		m, err := Map(pipe, Options{})
		if err == nil {
			m.Close()
		}
		mapped <- err
	}()
	select {
	case err := <-mapped:
		if err == nil {
			t.Error("a pipe was mapped")
		}
	case <-time.After(10 * time.Second):
		t.Error("Map waits for a writer of the pipe")
		fd, err := unix.Open(pipe, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		must(t, "open the pipe", err)
		unix.Close(fd)
		<-mapped
	}
}
