package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"lazyfs/store"
)

var infoCommand = command{
	name:    "info",
	args:    []string{"STORE...", "--mount DIR..."},
	min:     1,
	max:     -1,
	summary: "Show the sizes, ratio, frames and generation of stores",
	about: `Reads the whole index of each store, but no frame. The ratio is that of the
plain bytes which are not in holes to the bytes of the store file in use.

With --map it also draws how each frame is stored, with which codec and in how
many bytes: in the order of the plain bytes, where holes and what does not
compress show, and in the order of the store's file, where free space shows.

With --mount it shows what the daemons of mounts have done since they were started,
and what they have open.`,
	examples: []string{
		"lazyfs info vm.img.lazy",
		"lazyfs info --map=vm.png vm.img.lazy",
		"lazyfs info --json *.lazy | jq '.[].ratio'",
		"lazyfs info --mount /mnt",
	},
	declare: func(f *pflag.FlagSet) action {
		asJSON := f.Bool("json", false, "print an array with one object for each argument, all sizes in bytes")
		file := f.String("map", "", "draw the frames of the one STORE as a picture in `PNG`, which is replaced unless it is a store")
		mounts := f.Bool("mount", false, "show the counters of the mounts at the folders DIR")
		return func(ctx context.Context, args []string) error {
			if *mounts && *file != "" {
				return usagef("--map: has no meaning with --mount")
			}
			if *mounts {
				return showAll(ctx, args, readMountInfo, *asJSON)
			}
			if *file == "" {
				return showAll(ctx, args, readInfo, *asJSON)
			}
			if len(args) > 1 {
				return usagef("--map: draws one store, %d are given", len(args))
			}
			png, err := createOutput(*file)
			if err != nil {
				return err
			}
			defer png.discard()
			if err := showAll(ctx, args, readInfo, *asJSON); err != nil {
				return err
			}
			return drawStore(ctx, png, args[0])
		}
	},
}

// storeInfo is what info shows of one store.
type storeInfo struct {
	Store      string           `json:"store"`
	Plain      int64            `json:"plain_bytes"`
	Data       int64            `json:"data_bytes"`
	File       int64            `json:"file_bytes"`
	Disk       int64            `json:"disk_bytes"`
	Frames     int64            `json:"frames_bytes"`
	Index      int64            `json:"index_bytes"`
	Free       int64            `json:"free_bytes"`
	Ratio      float64          `json:"ratio"`
	FrameSize  int              `json:"frame_size"`
	Codec      string           `json:"codec"`
	Level      int              `json:"level"`
	Generation uint64           `json:"generation"`
	Kinds      map[string]int64 `json:"frames_by_kind"`
}

// showAll reads and shows each of names, as text or as one array, also when one can't
// be read.
func showAll[T interface{ print() error }](ctx context.Context, names []string, read func(name string) (T, error), asJSON bool) error {
	infos := make([]T, 0, len(names))
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		i, err := read(name)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		infos = append(infos, i)
	}
	if asJSON {
		failures = append(failures, json.NewEncoder(os.Stdout).Encode(infos))
		return errors.Join(failures...)
	}
	for n, i := range infos {
		if n > 0 {
			fmt.Println()
		}
		if err := i.print(); err != nil {
			failures = append(failures, err)
			break
		}
	}
	return errors.Join(failures...)
}

func readInfo(path string) (storeInfo, error) {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return storeInfo{}, err
	}
	defer s.Close()
	i, err := s.Info()
	return storeInfo{
		Store:      path,
		Plain:      i.Size,
		Data:       i.DataSize,
		File:       i.FileSize,
		Disk:       i.DiskSize,
		Frames:     i.StoredSize,
		Index:      i.IndexSize,
		Free:       i.FreeSize,
		Ratio:      i.Ratio(),
		FrameSize:  i.FrameSize,
		Codec:      i.Codec,
		Level:      i.Level,
		Generation: i.Generation,
		Kinds:      i.Frames,
	}, err
}

// frameKinds are the kinds of frames in the order in which they are shown.
var frameKinds = []string{"hole", "zero", "inline", "raw", "lz4", "zstd", "gzip"}

func (i storeInfo) print() error {
	if err := printLine(os.Stdout, "%s", i.Store); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	size := func(name string, n int64, note string) {
		fmt.Fprintf(w, "  %s\t%d\t%s%s\n", name, n, humanSize(n), note)
	}
	size("plain", i.Plain, "")
	size("  data", i.Data, ", the rest is holes")
	size("file", i.File, fmt.Sprintf(", ratio %.2f", i.Ratio))
	size("  frames", i.Frames, "")
	size("  index", i.Index, "")
	size("  free", i.Free, "")
	size("  on disk", i.Disk, "")
	level := "default level"
	if i.Level != 0 {
		level = fmt.Sprintf("level %d", i.Level)
	}
	var kinds []string
	for _, kind := range frameKinds {
		if n := i.Kinds[kind]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
	}
	fmt.Fprintf(w, "  codec\t%s\t%s\n", i.Codec, level)
	fmt.Fprintf(w, "  frame\t%d\t%s\n", i.FrameSize, strings.Join(kinds, ", "))
	fmt.Fprintf(w, "  generation\t%d\n", i.Generation)
	return w.Flush()
}
