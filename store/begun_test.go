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
