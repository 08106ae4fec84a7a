package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// fusermountOn mounts source on dir through fusermount3 and returns the descriptor of
// the mount's device, which fusermount3 hands over through a socket.
func (m *mount) fusermountOn(source, dir string) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	defer ours.Close()
	err = fusermountWith(theirs, "-o", m.fusermountOptions(source), "--", dir)
	theirs.Close()
	if err != nil {
		return -1, err
	}
	return receiveDescriptor(pair[0])
}

// fusermountOptions are what fusermount3 is told of a mount of source. A comma ends an
// option there, unless it stands behind a backslash.
func (m *mount) fusermountOptions(source string) string {
	words := append([]string{"fsname=" + source, "subtype=" + fsName}, m.kernelOptions()...)
	words = append(words, m.opt.Restrict...)
	if !m.opt.Writable {
		words = append(words, "ro")
	}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	for i, w := range words {
		words[i] = escape.Replace(w)
	}
	return strings.Join(words, ",")
}

// receiveDescriptor returns the descriptor that came through socket.
func receiveDescriptor(socket int) (int, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("fusermount3 has handed over no mount")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("fusermount3 has handed over no mount")
	}
	return fds[0], nil
}

// fusermount runs fusermount3, whose error is what that says.
func fusermount(args ...string) error { return fusermountWith(nil, args...) }

// fusermountWith is fusermount with a socket for the mount's descriptor.
func fusermountWith(socket *os.File, args ...string) error {
	cmd := exec.Command("fusermount3", args...)
	if socket != nil {
		cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
		cmd.ExtraFiles = []*os.File{socket}
	}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	// It says who it is, with the folder that everybody else names, too.
	if text := strings.TrimSpace(string(out)); text != "" {
		return errors.New(strings.ReplaceAll(text, "\n", "; "))
	}
	return fmt.Errorf("fusermount3: %w", err)
}
