package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// packFolder packs each file of a folder.
func (p *packer) packFolder(ctx context.Context, src, dst string) error {
	t, err := readTree(src)
	if err != nil {
		return err
	}
	bar := newProgress(*p.quiet, src)
	defer bar.end()
	m := mirror{
		src: src, dst: dst, jobs: p.jobs,
		plan: func(rel string) (string, bool, error) {
			name, err := storeName(filepath.Base(rel))
			return filepath.Join(filepath.Dir(rel), name), true, err
		},
		convert: func(ctx context.Context, src *os.File, e treeEntry, jobs int) error {
			done := p.plain.Load()
			report := func(plain, _ int64) { bar.report(done+plain, t.bytes) }
			return p.packFile(ctx, src, e, jobs, report)
		},
	}
	return m.run(ctx, t)
}

// packFile packs src into the new file e.to, which need not be durable, and closes it.
// Pack makes each store durable, which for many small files takes most of the
// time: those are packed in memory.
func (p *packer) packFile(ctx context.Context, src *os.File, e treeEntry, jobs int, report func(plain, stored int64)) error {
	defer src.Close()
	dst, err := os.OpenFile(e.to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if e.info.Size() >= bigFile {
		return p.packInto(ctx, dst, src, jobs, report)
	}
	fd, err := unix.MemfdCreate("lazyfs-pack", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), src.Name())
	defer memory.Close()
	if err := p.packInto(ctx, memory, src, jobs, report); err != nil {
		return err
	}
	size, err := memory.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := restore(ctx, dst, sparseFile{memory, size}, 1, func(int64) {}); err != nil {
		return err
	}
	return dst.Close() // On a mount it may be what tells that the disk is full.
}
