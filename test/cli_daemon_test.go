package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Without --log a daemon tells of damage, in one line with file, range and cause, in
// the system's log.
func TestMountSyslog(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	must(t, dir, "pack", "plain", "x.lazy")
	store := read(t, dir+"/x.lazy")
	store[len(store)/2] ^= 1
	write(t, dir+"/stores/x.lazy", store)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/socket", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// In a mount namespace of its own it is the system's log. The daemon's record
	// is in the /run that lies below.
	c := exec.Command("unshare", "--mount", "sh", "-euc", `
		if [ -e /dev/log ]; then log=$(readlink -f /dev/log); else
			mount -t tmpfs none /run
			log=/run/syslog
			touch $log
		fi
		mount --bind socket $log
		mkdir mnt
		$lazyfs mount --quiet stores mnt
		cat mnt/x >/dev/null 2>&1 && exit 9
		cat mnt/x >/dev/null 2>&1 && exit 9
		$lazyfs umount mnt`)
	c.Dir, c.Env = dir, append(os.Environ(), "lazyfs="+binary)
	if r := finish(t, c); r != (result{}) {
		t.Fatalf("mount, read and unmount: %+v", r)
	}
	// The daemon has ended: all that will come is there.
	if err := socket.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := socket.Read(line)
	if want := regexp.MustCompile(`lazyfs\[\d+\]: .*/stores/x\.lazy: bytes 0x\w+ to 0x\w+ can't be read: .*frame \d+`); err != nil || !want.Match(line[:n]) {
		t.Errorf("the log has %q, %v, want %v", line[:n], err, want)
	}
	if n, err := socket.Read(line); err == nil {
		t.Errorf("the log has a second line: %q", line[:n])
	}
}

// The daemon holds nothing of its starter: neither its pipes and other descriptors,
// nor its session, nor its folder.
func TestDaemonIsAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/mnt", unix.MNT_DETACH) })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := command(dir, "mount", "stores", "mnt")
	c.ExtraFiles = []*os.File{w, w, w}
	if got := finish(t, c); got.code != 0 || got.err != "" { // comes only when nobody has its pipes open
		t.Fatalf("mount: %+v", got)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read of a pipe that nobody should have open any more: %v, want %v", err, io.EOF)
	}
	pid := daemonOf(t, dir+"/mnt")
	if sid, err := unix.Getsid(pid); sid != pid || err != nil {
		t.Errorf("daemon %d is in session %d (%v)", pid, sid, err)
	}
	proc := "/proc/" + strconv.Itoa(pid)
	for link, want := range map[string]string{"/cwd": "/", "/fd/0": "/dev/null", "/fd/1": "/dev/null", "/fd/2": "/dev/null"} {
		if got, err := os.Readlink(proc + link); got != want || err != nil {
			t.Errorf("daemon's %s is %q (%v), want %q", link, got, err, want)
		}
	}
	must(t, dir, "umount", "mnt")
}

// Whatever the name of a file is, a message about it is one line of the log.
func TestLogOfOddName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	if err := os.Mkdir(dir+"/stores", 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "pack", "plain", "stores/a\nb\x1b[31m.lazy")
	damageFrame(t, dir+"/stores/a\nb\x1b[31m.lazy", 7)
	mountStore(t, dir, "--log", "log", "stores", "mnt")
	if _, err := os.ReadFile(dir + "/mnt/a\nb\x1b[31m"); !errors.Is(err, unix.EIO) {
		t.Errorf("read of the damaged file: %v, want %v", err, unix.EIO)
	}
	must(t, dir, "umount", "mnt")
	log := read(t, dir+"/log")
	if bytes.Count(log, []byte("\n")) != 1 || bytes.IndexByte(log, 0x1b) >= 0 || !bytes.Contains(log, []byte(dir+"/stores/a; b?[31m.lazy: ")) {
		t.Errorf("the log is %q, want one line without control characters", log)
	}
}

// A mount in the foreground goes on when nobody reads its messages any more. Where it
// can't say that it is there, it is not.
func TestForegroundUnread(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	if err := os.Mkdir(dir+"/stores", 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "pack", "plain", "stores/x.lazy")
	damageFrame(t, dir+"/stores/x.lazy", 7)
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/mnt", unix.MNT_DETACH) })
	c := command(dir, "mount", "--foreground", "--rw", "stores", "mnt")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatalf("mount --foreground says %q (%v)", line, err)
	}
	r.Close()
	if _, err := os.ReadFile(dir + "/mnt/x"); !errors.Is(err, unix.EIO) {
		t.Errorf("read of the damaged file: %v, want %v", err, unix.EIO)
	}
	write(t, dir+"/mnt/new", []byte("new"))
	must(t, dir, "umount", "mnt")
	if err := c.Wait(); err != nil {
		t.Errorf("mount --foreground ends with %v", err)
	}
	if got := must(t, dir, "cat", "stores/new.lazy"); got != "new" {
		t.Errorf("new store has %q", got)
	}

	if r, w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	c = command(dir, "mount", "--foreground", "stores", "mnt")
	var errs bytes.Buffer
	c.Stdout, c.Stderr = w, &errs
	_ = c.Run() // the exit code is checked below
	w.Close()
	failed(t, result{err: errs.String(), code: c.ProcessState.ExitCode()}, 3, "lazyfs mount: write /dev/stdout: broken pipe")
	noRecord(t, dir)
	if mounted(t, dir+"/mnt") {
		t.Error("it is mounted still")
	}
}

// info --mount shows what the daemon of a mount has done, as text and as JSON.
func TestInfoMount(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "--rw", "stores", "mnt")
	write(t, dir+"/mnt/x", text(1, 100_000))
	var infos []struct {
		Mount        string
		PID          int
		WrittenBytes int64 `json:"written_bytes"`
		Opens        int64
	}
	if err := json.Unmarshal([]byte(must(t, dir, "info", "--json", "--mount", "mnt")), &infos); err != nil {
		t.Fatal(err)
	}
	if len(infos) != 1 || infos[0].Mount != "mnt" || infos[0].PID != daemonOf(t, dir+"/mnt") || infos[0].WrittenBytes != 100_000 || infos[0].Opens != 1 {
		t.Errorf("info --mount --json gives %+v", infos)
	}
	out := must(t, dir, "info", "--mount", "mnt")
	for _, want := range []string{"mnt\n", "\n  writes ", " 97.7 KiB\n", " 0 times damage"} {
		if !strings.Contains(out, want) {
			t.Errorf("info --mount does not say %q:\n%s", want, out)
		}
	}
	fails(t, dir, 3, "lazyfs info: stores: nothing is mounted here", "info", "--mount", "stores")
	fails(t, dir, 3, "lazyfs info: none: ", "info", "--mount", "none")
	must(t, dir, "umount", "mnt")
}
