package store

import "testing"

// A commit of two frames of which a power cut left but the second and the log stays
// unmade, though the next writer puts the first one, just as it was, where it was.
func TestBegunCommitStaysUnmade(t *testing.T) {
	for _, logged := range []bool{false, true} {
		for _, full := range []bool{false, true} {
			d := &simDisk{}
			s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
			must(t, err)
			mustWrite(t, s, noise(8*MinFrameSize, 1), 0)
			must(t, s.Sync())
			must(t, s.checkpointNow())
			if logged {
				mustWrite(t, s, noise(MinFrameSize, 2), 5*MinFrameSize)
				must(t, s.Sync())
			}
			first, second := noise(MinFrameSize, 3), noise(MinFrameSize, 4)
			must(t, s.WriteFrame(0, first))
			lost := len(d.pending)
			must(t, s.WriteFrame(1, second))
			must(t, s.Commit())
			image := d.durable
			for i, op := range d.pending {
				if i >= lost {
					image = op.apply(image)
				}
			}
			d = diskWith(image)
			d.setFull(full)
			s, err = openDisk(d, nil, Options{Writable: true})
			must(t, err)
			image = d.durable // From here on some of the disk's writes get lost.
			d.setFull(false)
			must(t, s.WriteFrame(0, first))
			for _, op := range d.pending {
				if string(op.data) != string(blank[:len(op.data)]) {
					image = op.apply(image)
				}
			}
			again, err := openImage(image)
			must(t, err)
			got := make([]byte, MinFrameSize)
			if _, err := again.ReadAt(got, MinFrameSize); err != nil || string(got) == string(second) {
				t.Errorf("logged %v, full %v: %v, or the second frame is back", logged, full, err)
			}
		}
	}
}

// A loggedDisk calls logged after each write at the place of the next log block.
type loggedDisk struct {
	*simDisk
	place  int64
	logged func()
}

func (d *loggedDisk) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.simDisk.WriteAt(p, off)
	if off == d.place {
		d.place = -1
		d.logged()
	}
	return n, err
}

// A write that finds no room made for the log, while a commit is writing to it, makes
// room for the next commit, not where this one lies.
func TestReserveBesideCommit(t *testing.T) {
	d := &loggedDisk{simDisk: &simDisk{}, place: -1}
	s, err := createDisk(d, nil, CreateOptions{FrameSize: MinFrameSize})
	must(t, err)
	want := noise(8*MinFrameSize, 1)
	mustWrite(t, s, want, 0)
	must(t, s.Sync())
	must(t, s.checkpointNow())
	d.place = s.logNext
	d.logged = func() {
		s.mu.Lock()
		s.logReserved = false // As when the disk has no room for it.
		s.mu.Unlock()
		mustWrite(t, s, want[:MinFrameSize], 5*MinFrameSize)
	}
	mustWrite(t, s, want[:MinFrameSize], 3*MinFrameSize)
	must(t, s.Sync())
	if d.place >= 0 {
		t.Fatal("the commit is not in the log")
	}
	copy(want[3*MinFrameSize:], want[:MinFrameSize])
	again, err := openImage(d.durable)
	must(t, err)
	same(t, again, want)
	must(t, s.Sync())
	copy(want[5*MinFrameSize:], want[:MinFrameSize])
	again, err = openImage(d.durable)
	must(t, err)
	same(t, again, want)
}
