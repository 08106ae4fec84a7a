package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lazyfs/store"
)

// The two folders of a disk: what a mount mirrors, and what is changed without it.
const (
	onMount = "mounted"
	beside  = "beside"
)

// A subject is something that is changed again and again, each time to the next version,
// in a folder of its own.
type subject struct {
	name    string
	beside  bool                          // changed by stores themselves, without a mount
	late    bool                          // durable when the mount has ended, and not before
	prepare func(dir string) error        // makes what the first version needs, durably; or nil
	change  func(dir string, v int) error // makes version v, durably
	find    func(f found, lo, hi int) error

	started []int // by version, how many records there were when it was begun
	durable []int // and when it was acknowledged
}

// A world is all that is on a disk.
type world struct {
	disk     *disk
	subjects []*subject
	ended    int // how many records there were at the end of the mount
}

// newWorld takes the program, the folder that it mounts, and one on another disk.
func newWorld(d *disk, lazyfs, back, away string, seed uint64) (*world, error) {
	w := &world{disk: d}
	w.subjects = slices.Concat(namesSubjects(), linksSubjects(seed), treesSubjects(),
		bytesSubjects(seed), attributesSubjects(), databasesSubjects())
	if lazyfs == "" {
		return w, nil
	}
	programs, err := programsSubjects(lazyfs, away, seed)
	w.subjects = slices.Concat(w.subjects, storeSubjects(seed), behindSubjects(back, seed), programs)
	return w, err
}

// String tells of how many versions each subject had.
func (w *world) String() string {
	var s []string
	for _, t := range w.subjects {
		s = append(s, fmt.Sprint(t.name, " ", len(t.started)))
	}
	return strings.Join(s, ", ")
}

// change changes all subjects at the same time, for as long as it is told.
func (w *world) change(mounted, besides string, work time.Duration) error {
	end := time.Now().Add(work)
	errs := make([]error, len(w.subjects))
	var all sync.WaitGroup
	for i, s := range w.subjects {
		all.Go(func() {
			dir := filepath.Join(mounted, s.name)
			if s.beside {
				dir = filepath.Join(besides, s.name)
			}
			if err := w.changeOne(s, dir, end); err != nil {
				errs[i] = fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (w *world) changeOne(s *subject, dir string, end time.Time) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if s.prepare != nil {
		if err := s.prepare(dir); err != nil {
			return err
		}
	}
	if err := errors.Join(syncPath(dir), syncPath(filepath.Dir(dir))); err != nil {
		return err
	}
	for v := 0; time.Now().Before(end); v++ {
		s.started = append(s.started, w.disk.records())
		if err := s.change(dir, v); err != nil {
			return fmt.Errorf("version %d: %w", v, err)
		}
		if !s.late {
			s.durable = append(s.durable, w.disk.records())
		}
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond) // Many cuts are to find nothing of it under way.
	}
	return nil
}

// end notes that the mount has ended.
func (w *world) end() {
	w.ended = w.disk.records()
	for _, s := range w.subjects {
		for range len(s.started) - len(s.durable) {
			s.durable = append(s.durable, w.ended)
		}
	}
}

// verify looks at the two folders of a disk as it may be after so many records. plain says
// that the first one shows files as they are, and no stores.
func (w *world) verify(mounted, besides string, plain bool, records int) error {
	var errs []error
	for _, s := range w.subjects {
		lo, hi := newest(s.durable, records), newest(s.started, records-1)
		if hi < 0 {
			continue // It was still being prepared.
		}
		f := found{dir: filepath.Join(mounted, s.name), plain: plain}
		if s.beside {
			f = found{dir: filepath.Join(besides, s.name), plain: true}
		}
		if err := s.find(f, lo, hi); err != nil {
			errs = append(errs, fmt.Errorf("%s, version %d to %d: %w", s.name, lo, hi, err))
		}
	}
	return errors.Join(append(errs, eachStore(mounted, checkStore))...)
}

// newest is the last version that is not later than so many records, or -1.
func newest(versions []int, records int) int {
	v := -1
	for v+1 < len(versions) && versions[v+1] <= records {
		v++
	}
	return v
}

// eachStore calls do for all stores below dir.
func eachStore(dir string, do func(path string) error) error {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(path, ".lazy") {
			return err
		}
		return do(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Not even the folder was durable.
	}
	return err
}

func checkStore(path string) error {
	s, err := openStore(path)
	if err != nil {
		return err
	}
	defer s.Close()
	var first error
	err = s.Check(context.Background(), func(d *store.DamageError) { first = errors.Join(first, d) }, nil)
	return errors.Join(first, err)
}

// goOn opens a store for writing, as whoever goes on with it, and closes it.
func goOn(path string) error {
	s, err := store.Open(path, store.Options{Writable: true, Blank: &store.CreateOptions{}})
	if err != nil {
		return err
	}
	return s.Close()
}

// openStore opens a store as a mount does.
func openStore(path string) (*store.Store, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return store.OpenFile(f, store.Options{Blank: &store.CreateOptions{}})
}

// found is the folder of a subject after a cut.
type found struct {
	dir   string
	plain bool // files are as they are, and no stores
}

// path is where the file called name in the mount is.
func (f found) path(name string) string {
	if !f.plain {
		name += ".lazy"
	}
	return filepath.Join(f.dir, name)
}

func (f found) has(name string) bool {
	_, err := os.Lstat(f.path(name))
	return err == nil
}

// read returns the content of a file.
func (f found) read(name string) ([]byte, error) {
	if f.plain {
		return os.ReadFile(f.path(name))
	}
	return readStore(f.path(name))
}

func readStore(path string) ([]byte, error) {
	s, err := openStore(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	b := make([]byte, s.Size())
	if len(b) > 0 {
		_, err = s.ReadAt(b, 0)
	}
	return b, err
}
