package uffdmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	bodies["locked"] = lockedBody
	bodies["locked since"] = lockedSinceBody
}

// lockedBody has the kernel lock all memory that comes, also only once it is
// touched, and then compares what it views and maps with a file.
func lockedBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	flags := unix.MCL_FUTURE
	if args[2] == "on fault" {
		flags |= unix.MCL_ONFAULT
	}
	if err := unix.Mlockall(flags); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	for _, o := range []Options{{}, {Writable: true}} {
		m, err := Map(args[0], o)
		if err != nil {
			return err
		}
		if !bytes.Equal(m.Bytes(), data) {
			return fmt.Errorf("mapping with %+v differs from the file", o)
		}
		if err := m.Close(); err != nil {
			return err
		}
		o.MemoryLimit = 256 << 10
		v, err := Open(args[0], o)
		if err != nil {
			return err
		}
		got := make([]byte, len(data))
		if _, err := v.ReadAt(got, 0); err != nil {
			return err
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("view with %+v differs from the file", o)
		}
		if b, trapped := touchByte(v.mem.b, 0); trapped == 0 {
			return fmt.Errorf("view with %+v: byte of an evicted frame is %d, want a trap", o, b)
		}
		if err := v.Close(); err != nil {
			return err
		}
	}
	return nil
}

// A program that locks its memory with mlockall finds in mappings what the store
// has, no zeros, and frames that are evicted leave memory.
func TestLockedMemory(t *testing.T) {
	path, plain := storeAndPlain(t, 2<<20, 21)
	for _, when := range []string{"at once", "on fault"} {
		run(t, command("locked", path, plain, when), tooLong)
	}
}

// lockedSinceBody locks the memory of mappings that are in use, and then compares what
// it views with a file. In the store the last frame of the first huge page is damaged.
func lockedSinceBody(args []string) error {
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	const limit = 256 << 10
	large, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	limited, err := Open(args[0], Options{MemoryLimit: limit})
	if err != nil {
		return err
	}
	if err := large.Prefetch(Range{2 * hugeSize, hugeSize}); err != nil {
		return err
	}
	if err := limited.Prefetch(Range{hugeSize, limit}); err != nil {
		return err
	}
	if err := unix.Mlockall(unix.MCL_CURRENT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	if _, err := large.View(0, hugeSize); !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("view of what is damaged: %w", err)
	}
	for _, v := range []*Viewer{large, limited} {
		got := make([]byte, len(data)-hugeSize)
		if _, err := v.ReadAt(got, hugeSize); err != nil {
			return err
		}
		if !bytes.Equal(got, data[hugeSize:]) {
			return errors.New("view differs from the file")
		}
	}
	if r := limited.Stats().Resident; r > limit {
		return fmt.Errorf("%d bytes are resident, limit is %d", r, limit)
	}
	return errors.Join(large.Close(), limited.Close())
}

// A program may lock its memory with mlockall at any time: frames leave memory all the
// same, and what one left behind on its way never shows in another.
func TestLockedSince(t *testing.T) {
	path, plain := storeAndPlain(t, 3*hugeSize, 22)
	damageFrame(t, path, hugeSize>>14-1)
	run(t, command("locked since", path, plain), tooLong)
}
