package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// attach mounts fs on dir: as root by mount(2), otherwise through fusermount3.
func (m *mount) attach(fs fuse.RawFileSystem, dir string, o *fuse.MountOptions) (*fuse.Server, error) {
	if !m.asRoot {
		fd, err := fusermountOn(dir, o)
		if err != nil {
			return nil, err
		}
		// By this name go-fuse knows that the mount is made.
		dir = fmt.Sprintf("/dev/fd/%d", fd)
	}
	server, err := fuse.NewServer(fs, dir, o)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	return server, nil
}

// fusermountOn mounts on dir through fusermount3 and returns the descriptor of the
// mount's device, which fusermount3 hands over through a socket.
func fusermountOn(dir string, o *fuse.MountOptions) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	defer ours.Close()
	err = fusermountWith(theirs, "-o", fusermountOptions(o), "--", dir)
	theirs.Close()
	if err != nil {
		return -1, err
	}
	return receiveDescriptor(pair[0])
}

// fusermountOptions are o in the words of fusermount3, in which a comma ends an
// option unless it stands behind a backslash.
func fusermountOptions(o *fuse.MountOptions) string {
	words := append([]string{
		"fsname=" + o.FsName,
		"subtype=" + o.Name,
		fmt.Sprintf("max_read=%d", o.MaxWrite),
	}, o.Options...)
	if o.AllowOther {
		words = append(words, "allow_other")
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
