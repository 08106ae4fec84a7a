package main

import (
	"context"
	"fmt"
	"image/color"
	"path/filepath"
	"slices"

	"lazyfs/internal/picture"
	"lazyfs/store"
)

// kindColors are those of a kind of frame: of one that takes no room, and of one
// that takes as much as its plain bytes. They can be told apart by people who
// don't see all colours.
var kindColors = map[string][]color.RGBA{
	"hole":   {{236, 236, 236, 255}},
	"zero":   {{240, 228, 66, 255}},
	"inline": {{0, 0, 0, 255}},
	"raw":    {{213, 94, 0, 255}},
	"lz4":    {{196, 226, 245, 255}, {0, 90, 160, 255}},
	"zstd":   {{184, 232, 214, 255}, {0, 110, 80, 255}},
	"gzip":   {{242, 206, 228, 255}, {150, 60, 120, 255}},
}

// otherColor is that of what lies between the frames in a store's file.
var otherColor = color.RGBA{205, 205, 205, 255}

// drawStore draws the frames of the store at path as a picture: in the order of
// their plain offsets, and as they lie in the store's file.
func drawStore(ctx context.Context, png *newFile, path string) error {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	info, err := s.Info()
	if err != nil {
		return err
	}
	frames, err := readFrames(ctx, s)
	if err != nil {
		return err
	}
	size := int64(info.FrameSize)
	total := (info.Size + size - 1) / size
	p := picture.Picture{
		Title: "Frames of " + filepath.Base(path),
		Lines: []string{
			fmt.Sprintf("%s of plain bytes, %s of them in holes; the file has %s, %s of it free; ratio %.2f",
				humanSize(info.Size), humanSize(info.Size-info.DataSize), humanSize(info.FileSize), humanSize(info.FreeSize), info.Ratio()),
			fmt.Sprintf("%s of %s; new ones are compressed with %s", count(int(total), "frame"), humanSize(size), info.Codec),
		},
		Panels: []picture.Panel{plainPanel(frames, total, size), filePanel(frames, info)},
		Legend: frameLegend(total, info),
	}
	return writePicture(png, &p)
}

// A drawnFrame is a frame of a picture that is not a hole.
type drawnFrame struct {
	n           int64 // its number
	off, stored int64 // as in store.FrameInfo
	color       color.RGBA
}

func readFrames(ctx context.Context, s *store.Store) ([]drawnFrame, error) {
	size := int64(s.FrameSize())
	var frames []drawnFrame
	for c, err := range dataChunks(s) {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for n := c.off / size; n*size < c.off+c.n; n++ {
			i, err := s.FrameInfo(n)
			if err != nil {
				return nil, err
			}
			plain := min(size, s.Size()-n*size)
			frames = append(frames, drawnFrame{n, i.Off, i.Stored, picture.Blend(kindColors[i.Kind], float64(i.Stored)/float64(plain))})
		}
	}
	return frames, nil
}

// plainPanel shows all frames in the order of their plain offsets.
func plainPanel(frames []drawnFrame, total, size int64) picture.Panel {
	return picture.Panel{
		Title: "Plain bytes in their order",
		Count: total,
		Colors: func(yield func(int64, color.RGBA) bool) {
			hole, at := kindColors["hole"][0], int64(0)
			for _, f := range frames {
				if f.n > at && !yield(f.n-at, hole) || !yield(1, f.color) {
					return
				}
				at = f.n + 1
			}
			if at < total {
				yield(total-at, hole)
			}
		},
		Label: func(n int64) string { return humanSize(n * size) },
		Cell: func(n int64) string {
			return fmt.Sprintf("%s, %s", count(int(n), "frame"), humanSize(n*size))
		},
	}
}

// fileUnit is the unit in which the store's file is drawn, in bytes. Frames lie
// at any byte, so that a unit may show two.
const fileUnit = 512

// filePanel shows what lies where in the store's file.
func filePanel(frames []drawnFrame, info store.Info) picture.Panel {
	placed := slices.DeleteFunc(slices.Clone(frames), func(f drawnFrame) bool { return f.stored == 0 })
	slices.SortFunc(placed, func(a, b drawnFrame) int { return int(a.off/fileUnit - b.off/fileUnit) })
	units := (info.FileSize + fileUnit - 1) / fileUnit
	return picture.Panel{
		Title: "The store's file in its order",
		Count: units,
		Colors: func(yield func(int64, color.RGBA) bool) {
			at := int64(0)
			for _, f := range placed {
				begin, end := f.off/fileUnit, min((f.off+f.stored+fileUnit-1)/fileUnit, units)
				if begin > at && !yield(begin-at, otherColor) {
					return
				}
				at = max(at, begin)
				if end > at && !yield(end-at, f.color) {
					return
				}
				at = max(at, end)
			}
			if at < units {
				yield(units-at, otherColor)
			}
		},
		Label: func(n int64) string { return humanSize(n * fileUnit) },
		Cell:  func(n int64) string { return humanSize(n * fileUnit) },
	}
}

// frameLegend explains the colours that occur.
func frameLegend(total int64, info store.Info) []picture.Key {
	var keys []picture.Key
	for _, kind := range frameKinds {
		n := info.Frames[kind]
		if n == 0 {
			continue
		}
		text := fmt.Sprintf("%s: %.1f%% of the frames", kind, 100*float64(n)/float64(total))
		if len(kindColors[kind]) > 1 {
			text += ", stored in 0% to 100% of their size"
		}
		keys = append(keys, picture.Key{Colors: kindColors[kind], Text: text})
	}
	return append(keys, picture.Key{
		Colors: []color.RGBA{otherColor},
		Text:   fmt.Sprintf("between frames: free (%s), index (%s), log", humanSize(info.FreeSize), humanSize(info.IndexSize)),
	})
}
