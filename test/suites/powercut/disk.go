package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A disk is a file that a process of its own serves by FUSE, and the record of what is
// written to it. Were it this process, nobody could end it while it waits for itself.
type disk struct {
	path   string
	sector int // what it writes whole or not at all, in bytes
	server *exec.Cmd
	index  *os.File // record by record: offset and length of a write; both 0 for a flush

	// What there is after close.
	now   []byte // what it held after the records before done
	done  int
	log   []record
	bytes int64 // of all records
}

// A record is a write, or, without data, a flush.
type record struct {
	off  int64
	data []byte
}

// newDisk makes a disk of size bytes with a new file system of a kind.
func newDisk(folder, kind string, size int64) (*disk, error) {
	image := filepath.Join(folder, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(image)
	if err := os.Truncate(image, size); err != nil {
		return nil, err
	}
	sector, format := 512, []string{"mkfs." + kind, "-q", image}
	switch kind { // With a block of their own torn these can't be mounted.
	case "btrfs":
		sector = 4096
	case "xfs":
		sector, format = 4096, append(format, "-s", "size=4096")
	}
	if err := command(format[0], format[1:]...); err != nil {
		return nil, err
	}
	first, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	d := &disk{path: filepath.Join(folder, "disk", "disk"), sector: sector, now: first, server: exec.Command("/proc/self/exe")}
	d.server.Env = append(os.Environ(), diskEnv+"="+folder)
	d.server.Stderr = os.Stderr
	d.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	ready, err := d.server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.server.Start(); err != nil {
		return nil, err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return nil, errors.Join(fmt.Errorf("the disk does not begin: %w", err), d.server.Wait())
	}
	d.index, err = os.Open(filepath.Join(folder, indexName))
	return d, err
}

// records is how many there are.
func (d *disk) records() int {
	info, err := d.index.Stat()
	if err != nil {
		panic(err)
	}
	return int(info.Size() / indexLen)
}

// close ends the disk, and reads the record of it.
func (d *disk) close() error {
	if err := errors.Join(d.server.Process.Signal(syscall.SIGTERM), d.server.Wait()); err != nil {
		return err
	}
	index, err := io.ReadAll(d.index)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(d.index.Name()), dataName))
	if err != nil {
		return err
	}
	d.bytes = int64(len(data))
	for i := 0; i < len(index); i += indexLen {
		off, n := binary.LittleEndian.Uint64(index[i:]), binary.LittleEndian.Uint64(index[i+8:])
		r := record{off: int64(off)}
		if n > 0 {
			r.data, data = data[:n], data[n:]
		}
		d.log = append(d.log, r)
	}
	return nil
}

// state makes image what the disk may hold when the power goes after at records, which are
// no less than those of the call before. It says how that was chosen.
func (d *disk) state(image string, at int, rng *rand.Rand) (how string, err error) {
	flushed := at
	for flushed > 0 && d.log[flushed-1].data != nil {
		flushed--
	}
	for ; d.done < flushed; d.done++ {
		copy(d.now[d.log[d.done].off:], d.log[d.done].data)
	}
	f, err := os.Create(image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := d.writeNow(f); err != nil {
		return "", err
	}
	odds := []float64{0, 0.5, 0.9, 1}[rng.IntN(4)]
	whole, torn := 0, 0
	for _, r := range d.log[flushed:at] {
		switch {
		case rng.Float64() >= odds:
		case odds == 1 || rng.IntN(8) > 0:
			whole++
			_, err = f.WriteAt(r.data, r.off)
		default:
			torn++
			for from := 0; from < len(r.data) && err == nil; from += d.sector {
				if rng.IntN(2) == 0 {
					_, err = f.WriteAt(r.data[from:][:d.sector], r.off+int64(from))
				}
			}
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("of %d writes since a flush %d whole, %d in part", at-flushed, whole, torn), nil
}

// writeNow writes now to the new file f, and leaves holes where it has zeros.
func (d *disk) writeNow(f *os.File) error {
	var zeros [64 << 10]byte
	for off := 0; off < len(d.now); off += len(zeros) {
		b := d.now[off:min(off+len(zeros), len(d.now))]
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		if _, err := f.WriteAt(b, int64(off)); err != nil {
			return err
		}
	}
	return f.Truncate(int64(len(d.now)))
}

// mountImage mounts the file system in image on dir, by a loop device.
func mountImage(image, dir, options string) (unmount func() error, err error) {
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("losetup: %w: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	if err := command("mount", "-o", options, device, dir); err != nil {
		command("losetup", "--detach", device)
		return nil, err
	}
	return func() error {
		// Others on the machine may look at it for a moment.
		if err := patiently(func() error { return command("umount", dir) }); err != nil {
			return err
		}
		return command("losetup", "--detach", device)
	}, nil
}

// patiently calls do until it succeeds, for some seconds.
func patiently(do func() error) error {
	end := time.Now().Add(10 * time.Second)
	err := do()
	for ; err != nil && time.Now().Before(end); err = do() {
		time.Sleep(time.Millisecond)
	}
	return err
}

// command runs a program, which a signal to all of this one's group does not reach.
func command(name string, args ...string) error {
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
