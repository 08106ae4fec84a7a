package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// waitReadable waits until fd is readable, has hung up, or ctx is done, whose
// error it then returns.
func waitReadable(ctx context.Context, fd int) error {
	cancel, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	defer unix.Close(cancel)
	written := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(written)
		unix.Write(cancel, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-written // cancel may be closed only when nobody writes to it
		}
	}()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(cancel), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("poll", err)
		case fds[0].Revents != 0:
			return nil
		}
	}
}

// A waitingReader reads from a pipe or terminal, and stops waiting for data
// when ctx is done.
type waitingReader struct {
	ctx  context.Context
	file *os.File
}

func (w waitingReader) Read(p []byte) (int, error) {
	if err := waitReadable(w.ctx, int(w.file.Fd())); err != nil {
		return 0, err
	}
	return w.file.Read(p)
}

// An endingWriter fails when its context is done, also while a pipe that nobody reads
// holds a Write up. What was to be written is in use until the program ends then.
type endingWriter struct {
	ctx context.Context
	w   io.Writer
}

func (e endingWriter) Write(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	var n int
	written := make(chan error, 1)
	go func() {
		var err error
		n, err = e.w.Write(p)
		written <- err
	}()
	select {
	case err := <-written:
		return n, err
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
}
