package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/syslog"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"lazyfs/codec"
	"lazyfs/fs"
)

// serve mounts source on dir and returns when it is unmounted and everything
// written is durable.
func (m *mounter) serve(ctx context.Context, source, dir string) (err error) {
	// After the first signal main lets the next one kill the program. Here it
	// would interrupt the writing, so this keeps both caught; and SIGPIPE, since a
	// mount does not end with the reader of its messages.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	defer signal.Stop(signals)

	logFile, logger, err := m.openLog()
	if err != nil {
		return err
	}
	awaitLeaving(ctx, source)
	place := lockPlace(ctx, dir)
	defer place.Close()
	// Afterwards it would be a question to the mount itself.
	real, err := mountPlace(source, dir)
	if err != nil {
		return err
	}
	server, err := fs.Mount(source, real, m.fsOptions(logger))
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(fs.Procs())
	r, err := m.recordMount(source, real)
	place.Close()
	if err == nil {
		err = m.ready(logFile)
	}
	if err != nil {
		err = errors.Join(err, server.Unmount())
		if r != nil {
			r.end(err)
		}
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Unmount() }) // Wait returns its error
	defer stop()
	err = server.Wait()
	r.end(err)
	if err != nil && m.readyFD != 0 {
		logger.Print(err)
		return toldError(exitFailed)
	}
	return err
}

// openLog returns where messages go: to the file that the user named, from a
// daemon otherwise to the system's log, if there is one, and else to standard error.
// What Go itself writes when the program breaks goes to the file returned.
func (m *mounter) openLog() (*os.File, *log.Logger, error) {
	if m.log != "" {
		// O_NONBLOCK: nothing waits for the reader of a named pipe.
		f, err := os.OpenFile(m.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, 0o600)
		return f, log.New(lineWriter{f}, "", log.LstdFlags), err
	}
	if m.readyFD != 0 {
		if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "lazyfs"); err == nil {
			return os.Stderr, log.New(lineWriter{w}, "", 0), nil
		}
	}
	return os.Stderr, log.New(lineWriter{os.Stderr}, "", log.LstdFlags), nil
}

// A lineWriter writes each message of a log as one line: whoever names a file adds none.
type lineWriter struct{ w io.Writer }

func (l lineWriter) Write(message []byte) (int, error) {
	_, err := fmt.Fprintln(l.w, oneLine(string(message)))
	return len(message), err
}

func (m *mounter) fsOptions(logger *log.Logger) fs.Options {
	return fs.Options{
		Writable:   m.rw,
		AllowOther: m.allowOther,
		Restrict:   m.options.restrict(),
		CacheBytes: int64(m.cache),
		Codec:      codec.ID(m.flags.codec),
		Level:      m.flags.level,
		FrameSize:  int(m.flags.frame),
		Log:        logger,
	}
}

func (m *mounter) recordMount(source, real string) (*record, error) {
	point, err := findMount(real)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", real, err)
	}
	return newRecord(point, source, m.rw)
}

// ready tells the user, or the process that started this daemon, that the mount
// is ready, and lets a daemon leave the user's terminal and folder.
func (m *mounter) ready(logFile *os.File) error {
	if m.readyFD == 0 {
		return m.tell()
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	if logFile == os.Stderr {
		logFile = null
	}
	for fd, f := range []*os.File{null, logFile, logFile} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	ready := os.NewFile(uintptr(m.readyFD), "ready")
	if _, err := ready.Write([]byte{1}); err != nil {
		return fmt.Errorf("tell that the mount is ready: %w", err)
	}
	return ready.Close()
}
