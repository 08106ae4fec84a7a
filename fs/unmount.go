package fs

import (
	"errors"
	"fmt"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// unmountGrace is how long Unmount waits for those who have files open.
const unmountGrace = 3 * time.Second

// unmountTries is how long Unmount tries before it takes a mount out of sight: df(1),
// or somebody who reads links in /proc, uses it for a moment only.
const unmountTries = time.Second / 2

// finish closes all stores and makes names and attributes durable, once no more
// requests are served.
func (s *Server) finish() {
	<-s.ended
	close(s.stopSync)
	for _, h := range s.m.handles.all() {
		if h.file != nil {
			s.m.keepLoss(h)
		}
	}
	s.err = errors.Join(s.stays, s.m.files.closeAll())
	if s.m.opt.Writable {
		s.err = errors.Join(s.err, s.m.syncBacking())
	}
	close(s.done)
}

// letGo closes the descriptors that are left when everything is closed and nobody asks for
// anything any more: of a mount that is gone the kernel forgets nothing.
func (m *mount) letGo() {
	for fh, h := range m.handles.all() {
		if h.file != nil {
			m.Release(nil, &fuse.ReleaseIn{Fh: fh})
		}
	}
	m.files.each(m.files.close) // It has been told what could not be closed.
	m.nodes.letGoAll()
}

// Wait waits for the end of the mount, by Unmount, umount(8) or fusermount3 -u,
// until everything that was written is durable. Its error tells of what isn't, and
// of a mount that stayed.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Unmount ends the mount and returns what Wait does. When files are open it takes the
// mount out of sight, waits a few seconds for them to be closed, and then lets their
// further use fail. A mount that can't be taken away ends like that, too: it stays in
// sight, and all its use fails.
func (s *Server) Unmount() error {
	s.unmounting.Lock()
	defer s.unmounting.Unlock()
	select {
	case <-s.ended:
		return s.Wait()
	default:
	}
	err := s.takeAway(false)
	for begin := time.Now(); err != nil && time.Since(begin) < unmountTries; err = s.takeAway(false) {
		time.Sleep(2 * time.Millisecond)
	}
	if err != nil {
		if err = s.takeAway(true); err == nil {
			s.m.log.Printf("%s: files are in use: the mount is detached", s.dir)
		}
	}
	grace := time.NewTimer(unmountGrace)
	defer grace.Stop()
	select {
	case <-s.ended: // If unmounting failed, someone else was faster.
	case <-grace.C:
		s.m.ending.Store(true)
		s.m.takeWritten(nil)
		s.end.Do(func() {
			if err != nil {
				s.stays = fmt.Errorf("unmount %s: %w", s.dir, err)
			}
			close(s.ended)
		})
	}
	return s.Wait()
}

// takeAway is unmount of the mount, unless that is not at dir any more: there may be
// something else.
func (s *Server) takeAway(lazy bool) error {
	device, err := deviceAt(s.dir)
	if err != nil {
		return err
	}
	if device != s.device {
		return errors.New("it is not mounted there any more")
	}
	return s.m.unmount(s.dir, lazy)
}

// unmount takes the mount at dir out of the tree, and with lazy even when it is busy.
func (m *mount) unmount(dir string, lazy bool) error {
	switch {
	case !m.asRoot && lazy:
		return fusermount("-u", "-z", "--", dir)
	case !m.asRoot:
		return fusermount("-u", "--", dir)
	case lazy:
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	return unix.Unmount(dir, 0)
}
