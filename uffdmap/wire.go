package uffdmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lazyfs/internal/uffd"
	"lazyfs/store"
)

// protocol is the version of the messages between the program and its helpers.
// A helper that is another program than the one it serves may be of another age.
const protocol = 4

// A verb says what a message asks or tells.
type verb string

const (
	// From the program to the pager. Each has a seq, and a reply with the same.
	verbAttach   verb = "attach"   // serve the mapping Spec; its descriptors come along
	verbDetach   verb = "detach"   // stop serving mapping ID and close its store
	verbSync     verb = "sync"     // write back mapping ID
	verbPrefetch verb = "prefetch" // make Ranges of mapping ID resident
	verbProtect  verb = "protect"  // protect mapping ID, forget what was written
	verbSnapshot verb = "snapshot" // take snapshot Snap of mapping ID; its descriptors come along
	verbRecall   verb = "recall"   // put the one range of it into its window
	verbForget   verb = "forget"   // end it

	// From the program to the pager, without a reply.
	verbRepeated verb = "repeated" // to Pager every request that had no reply yet was sent again

	// From the pager to the program.
	verbReply verb = "reply" // Seq is done, or failed with Err
	verbHello verb = "hello" // Pager is the pager: it was a standby, or has tried to start one

	// From the program to its first pager, and from the pager to its standby.
	verbWelcome verb = "welcome" // pidfds: the program's, and to a standby the pager's

	// From the pager to its standby, which answers each with a reply.
	verbAdopt verb = "adopt" // hold the descriptors of the mapping Spec
	verbDrop  verb = "drop"  // close those of mapping ID
	verbReady verb = "ready" // that was everything
)

// A message is what the program, the pager and the standby say to each other.
type message struct {
	Verb    verb
	Version int        `json:",omitempty"`
	Seq     uint64     `json:",omitempty"`
	ID      int32      `json:",omitempty"` // of a mapping
	Spec    *spec      `json:",omitempty"`
	Pages   []byte     `json:",omitempty"` // Spec.Pages, which may be no text; send and receive see to it
	Snap    int32      `json:",omitempty"` // number of a snapshot
	Ranges  []Range    `json:",omitempty"`
	Err     *wireError `json:",omitempty"`
	Pager   int        `json:",omitempty"` // process id
	Folders bool       `json:",omitempty"` // in a welcome: folders of page files are served
	Again   bool       `json:",omitempty"` // in an attach: a pager that died has served it

	fds []int // descriptors that travel with it; the receiver owns them
}

// Bounds of a message. maxRanges keeps the longest one below the size that every
// kernel accepts in one packet.
const (
	maxMessage = 128 << 10
	maxRanges  = 1000
	maxFds     = 8
)

// A conn is one end of a socket pair that keeps messages apart. The descriptor
// is a plain number so that no finalizer ever closes it.
type conn struct {
	fd int
	mu sync.Mutex // one sender at a time
}

// socketPair makes two connected ends, closed on exec.
func socketPair() (a, b int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make a socket pair: %w", err)
	}
	return p[0], p[1], nil
}

// sendPatience is how long descriptors that are under way are waited for: a user may have
// only so many, those that other programs send included.
var sendPatience = 10 * time.Second

// send sends m; its descriptors stay the caller's.
func (c *conn) send(m message) error {
	if m.Spec != nil {
		m.Pages = []byte(m.Spec.Pages)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(m.fds) > 0 {
		rights = unix.UnixRights(m.fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for deadline := time.Now().Add(sendPatience); ; {
		err := unix.Sendmsg(c.fd, b, rights, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
		case err == unix.ETOOMANYREFS && time.Now().Before(deadline):
			time.Sleep(time.Millisecond) // until some have arrived
		case err == unix.ETOOMANYREFS:
			return fmt.Errorf("too many descriptors of this user are under way: %w", err)
		default:
			return err
		}
	}
}

// receive waits for the next message. io.EOF says that nobody is left at the
// other end.
func (c *conn) receive() (message, error) {
	b := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(maxFds*4))
	var n, oobn int
	var err error
	for {
		n, oobn, _, _, err = unix.Recvmsg(c.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECONNRESET || err == nil && n == 0 {
		return message{}, io.EOF
	}
	if err != nil {
		return message{}, fmt.Errorf("receive: %w", err)
	}
	m := message{fds: parseRights(oob[:oobn])}
	if err := json.Unmarshal(b[:n], &m); err != nil {
		closeAll(m.fds)
		return message{}, fmt.Errorf("receive: %w", err)
	}
	if m.Spec != nil {
		m.Spec.Pages = string(m.Pages)
	}
	return m, nil
}

// parseRights takes the descriptors out of a control message.
func parseRights(oob []byte) []int {
	var fds []int
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range cmsgs {
		if got, err := unix.ParseUnixRights(&cmsgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// wireKinds are the errors that a program can tell apart although they happened
// in its pager.
var wireKinds = map[string]error{
	"damaged":     store.ErrDamaged,
	"notstore":    store.ErrNotStore,
	"version":     store.ErrVersion,
	"locked":      store.ErrLocked,
	"readonly":    store.ErrReadOnly,
	"privilege":   uffd.ErrPrivilege,
	"unsupported": uffd.ErrUnsupported,
	"closed":      os.ErrClosed,
	"absent":      os.ErrNotExist,
	"moved":       errMoved,
	"lost":        ErrSnapshotLost,
}

// A wireError carries an error from the pager to the program, where it matches
// what it matched before.
type wireError struct {
	Text   string
	Kinds  []string           `json:",omitempty"` // keys of wireKinds
	Errno  unix.Errno         `json:",omitempty"`
	Damage *store.DamageError `json:",omitempty"`
}

func newWireError(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for name, kind := range wireKinds {
		if errors.Is(err, kind) {
			w.Kinds = append(w.Kinds, name)
		}
	}
	errors.As(err, &w.Errno)
	errors.As(err, &w.Damage)
	return w
}

// Error is the text of the error in the pager.
func (w *wireError) Error() string { return w.Text }

// Unwrap gives what the error in the pager was made of.
func (w *wireError) Unwrap() []error {
	var errs []error
	if w.Damage != nil {
		errs = append(errs, w.Damage)
	}
	for _, name := range w.Kinds {
		if kind := wireKinds[name]; kind != nil {
			errs = append(errs, kind)
		}
	}
	if w.Errno != 0 {
		errs = append(errs, w.Errno)
	}
	return errs
}

// asError turns a wireError into an error, nil into nil.
func (w *wireError) asError() error {
	if w == nil {
		return nil
	}
	return w
}
