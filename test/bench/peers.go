package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A peer is a file system that holds the corpus.
type peer struct {
	Name     string `json:"name"`
	About    string `json:"about"`
	Stored   int64  `json:"stored_bytes"` // what the corpus takes there
	Writable bool   `json:"writable"`

	needs string // a program, or a file system of the kernel
	// pack puts the corpus in where the peer keeps it; nil: mounted and copied.
	pack func(b *bench, image string) error
	// mount mounts it at dir, to be written when writes is set.
	mount func(b *bench, image, dir string, writes bool) error
	// umount, when not nil, is better than umount(2).
	umount func(b *bench, dir string) error

	image, dir string
}

// allPeers lists what lazyfs is compared with. Those that can compress do so with
// lz4 where they have it, at their own sizes.
func allPeers() []*peer {
	loop := func(kind, options string) func(*bench, string, string, bool) error {
		return func(b *bench, image, dir string, _ bool) error {
			_, err := b.run("mount", "-t", kind, "-o", "loop"+options, image, dir)
			return err
		}
	}
	squash := func(b *bench, image string) error {
		if exists(image) {
			return nil
		}
		_, err := b.run("mksquashfs", b.path("corpus"), image, "-comp", "lz4", "-no-progress", "-quiet")
		return err
	}
	sparse := func(format ...string) func(*bench, string) error {
		return func(b *bench, image string) error {
			f, err := os.Create(image)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := f.Truncate(3*b.plan.Image + 1<<30); err != nil {
				return err
			}
			_, err = b.run(format[0], append(format[1:], image)...)
			return err
		}
	}
	lazyfs := func(b *bench, image, dir string, writes bool) error {
		_, err := b.run(b.lazyfs, "mount", fmt.Sprintf("--rw=%v", writes), "--quiet", image, dir)
		return err
	}
	return []*peer{
		{Name: "lazyfs", About: "lz4, frames of 16 KiB, FUSE", Writable: true, mount: lazyfs,
			pack: func(b *bench, image string) error {
				_, err := b.run(b.lazyfs, "pack", "--quiet", b.path("corpus"), image)
				return err
			},
			umount: func(b *bench, dir string) error { _, err := b.run(b.lazyfs, "umount", dir); return err }},
		{Name: "ext4", About: "not compressed, kernel", needs: "mkfs.ext4", Writable: true,
			pack: sparse("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"), mount: loop("ext4", "")},
		{Name: "squashfs", About: "lz4, blocks of 128 KiB, kernel, read-only", needs: "mksquashfs", pack: squash, mount: loop("squashfs", "")},
		{Name: "EROFS", About: "lz4, clusters of 16 KiB, kernel, read-only", needs: "mkfs.erofs", mount: loop("erofs", ""),
			pack: func(b *bench, image string) error {
				_, err := b.run("mkfs.erofs", "-zlz4", "-C16384", "--quiet", image, b.path("corpus"))
				return err
			}},
		{Name: "btrfs", About: "zstd:1, extents of 128 KiB, kernel", needs: "mkfs.btrfs", Writable: true,
			pack: sparse("mkfs.btrfs", "-q", "-f"), mount: loop("btrfs", ",compress=zstd:1")},
		{Name: "squashfuse", About: "lz4, blocks of 128 KiB, FUSE, read-only", needs: "squashfuse", pack: squash,
			mount: func(b *bench, image, dir string, _ bool) error { _, err := b.run("squashfuse", image, dir); return err }},
		{Name: "gocryptfs", About: "encrypted, not compressed, FUSE", needs: "gocryptfs", Writable: true,
			pack: func(b *bench, image string) error {
				if err := os.Mkdir(image, 0o755); err != nil {
					return err
				}
				_, err := b.run("gocryptfs", "-q", "-init", "-scryptn", "10", "-extpass", "echo bench", image)
				return err
			},
			mount: func(b *bench, image, dir string, _ bool) error {
				_, err := b.run("gocryptfs", "-q", "-extpass", "echo bench", image, dir)
				return err
			}},
	}
}

// preparePeers gives the corpus to each peer that there is.
func (b *bench) preparePeers() error {
	for _, p := range allPeers() {
		if _, err := exec.LookPath(p.needs); p.needs != "" && err != nil {
			b.missing = append(b.missing, fmt.Sprintf("%s: %s is not installed", p.Name, p.needs))
			continue
		}
		b.say("packing for %s", p.Name)
		if err := b.prepare(p); err != nil {
			if b.ctx.Err() != nil || p.Name == "lazyfs" {
				return err
			}
			b.missing = append(b.missing, fmt.Sprintf("%s: %v", p.Name, err))
			continue
		}
		b.peers = append(b.peers, p)
	}
	return nil
}

// prepare packs the corpus, and mounts it once.
func (b *bench) prepare(p *peer) error {
	p.image, p.dir = b.path("image."+p.Name), b.path("mnt."+p.Name)
	if p.Name == "squashfuse" {
		p.image = b.path("image.squashfs")
	}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return err
	}
	b.undo = append(b.undo, func() error { return unmount(p.dir) })
	if err := p.pack(b, p.image); err != nil {
		return err
	}
	if err := p.mount(b, p.image, p.dir, true); err != nil {
		return err
	}
	if !exists(filepath.Join(p.dir, "image")) {
		if _, err := b.run("cp", "-a", "--sparse=always", b.path("corpus")+"/.", p.dir); err != nil {
			return err
		}
	}
	var err error
	if p.Stored, err = b.stored(p); err != nil {
		return err
	}
	return b.remount(p, false)
}

// stored is what the corpus takes: of a file system inside a file what is used of
// it.
func (b *bench) stored(p *peer) (int64, error) {
	if strings.HasPrefix(p.About, "lz4") || p.Name == "gocryptfs" {
		return diskUsage(p.image)
	}
	out, err := b.run("df", "--sync", "--output=used", "-B1", p.dir)
	if err != nil {
		return 0, err
	}
	var used int64
	_, err = fmt.Sscan(lastLine(out), &used)
	return used, err
}

// remount unmounts a peer, so that nothing stays in its memory, and mounts it.
func (b *bench) remount(p *peer, writes bool) error {
	if p.umount != nil {
		if err := p.umount(b, p.dir); err != nil {
			return err
		}
	} else if err := unmount(p.dir); err != nil {
		return fmt.Errorf("unmount %s: %w", p.dir, err)
	}
	return p.mount(b, p.image, p.dir, writes)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// diskUsage is what the files below path occupy, in bytes.
func diskUsage(path string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n, err := allocated(path)
		total += n
		return err
	})
	return total, errors.Join(err)
}
