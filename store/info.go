package store

import "os"

// Info describes a store. All sizes are in bytes.
type Info struct {
	Size       int64  `json:"size"`       // plain bytes
	FrameSize  int    `json:"frame_size"` // plain bytes of a frame
	Generation uint64 `json:"generation"`
	Codec      string `json:"codec"` // of new frames
	Level      int    `json:"level"` // 0: the codec's default

	FileSize   int64 `json:"file_size"`   // length of the store's file
	DiskSize   int64 `json:"disk_size"`   // what the file occupies
	StoredSize int64 `json:"stored_size"` // frames with their headers
	IndexSize  int64 `json:"index_size"`
	FreeSize   int64 `json:"free_size"` // of FileSize, not in use
	DataSize   int64 `json:"data_size"` // plain bytes outside holes

	Frames map[string]int64 `json:"frames"` // number by kind: hole, zero, inline, raw, lz4, zstd, gzip
}

// Ratio is that of the plain bytes outside holes to the bytes of the file in use.
func (i *Info) Ratio() float64 {
	return float64(i.DataSize) / float64(max(i.FileSize-i.FreeSize, 1))
}

// Info walks the whole index. What waits to be committed is described as it was
// before.
func (s *Store) Info() (Info, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return Info{}, os.ErrClosed
	}
	i := Info{Size: s.size, FrameSize: s.frameSize, Generation: s.gen,
		Codec: s.newCodec().ID().String(), Level: s.level, Frames: map[string]int64{}}
	var err error
	if i.FileSize, err = s.d.Size(); err != nil {
		return Info{}, err
	}
	if i.DiskSize, err = s.d.Blocks(); err != nil {
		return Info{}, err
	}
	if s.inline.data != nil {
		i.add(s, entry{info: uint64(kindInline) << 32}, 0)
		i.StoredSize += int64(len(s.inline.data))
	}
	count := s.frameCount(s.size)
	err = s.idx.scan(0, count, func(n int64, e entry) bool {
		i.add(s, e, n)
		return true
	})
	if err != nil {
		return Info{}, s.blame(err, 0)
	}
	err = s.idx.nodes(func(_ int64, e entry) error {
		i.IndexSize += e.extent().len
		return nil
	})
	holes := count
	for _, n := range i.Frames {
		holes -= n
	}
	if holes > 0 {
		i.Frames[kindHole.String()] = holes
	}
	used := dataStart + i.IndexSize
	if s.inline.data == nil {
		used += i.StoredSize
	}
	i.FreeSize = max(0, i.FileSize-used)
	return i, err
}

// add counts frame n of s, which e names and which is no hole.
func (i *Info) add(s *Store, e entry, n int64) {
	i.Frames[e.kind().String()]++
	i.DataSize += min(int64(s.frameSize), s.size-n<<s.shift)
	if e.onDisk() {
		i.StoredSize += e.extent().len
	}
}

// A FrameInfo says how a frame is stored.
type FrameInfo struct {
	Kind   string // hole, zero, inline, raw, lz4, zstd or gzip
	Off    int64  // of its header in the store's file
	Stored int64  // bytes, header included; 0 where nothing is
}

// FrameInfo returns how frame n is stored, as of the last commit.
func (s *Store) FrameInfo(n int64) (FrameInfo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return FrameInfo{}, os.ErrClosed
	}
	e, err := s.entryOf(n)
	if err != nil {
		return FrameInfo{}, s.blame(err, n)
	}
	i := FrameInfo{Kind: e.kind().String()}
	if e.onDisk() {
		i.Off, i.Stored = e.off(), int64(e.stored())
	}
	return i, nil
}
