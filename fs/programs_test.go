package fs_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree fills dir with all kinds of files and attributes.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	for i := range 40 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i%5), fmt.Sprintf("e%d", i%3))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(sub, fmt.Sprintf("f%d", i))
		write(t, path, text(uint64(i), i*i*50))
		if err := os.Chmod(path, os.FileMode(0o400+i%8)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "sh", "-ec", `
		ln d0/e0/f0 d1/hard; ln d1/e1/f1 d1/hard1
		ln -s ../d0 link; ln -s nowhere dangling; ln -s d0/e0/f0 good
		mkfifo pipe; mknod null c 1 3
		mkdir -m 1777 sticky; mkdir -m 2750 setgid; mkdir -m 0 closed
		touch empty; truncate -s 10M sparse; printf x | dd of=sparse bs=1 seek=5000000 conv=notrunc 2>/dev/null
		chown 12:34 d0/e0/f0; chown -h 56:78 link; chmod 6755 d1/hard1
		touch -d 1999-12-31T23:59:59.123456789 d2/e2/f2; touch -h -d 2005-01-01 dangling; touch -d 2010-10-10 d3
	`)
	if err := unix.Setxattr(filepath.Join(dir, "empty"), "user.note", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
}

// A tree copied into the mount and out again by cp -a and by rsync is the same:
// contents, modes, owners, times, links, sparse files, extended attributes. So it
// is after remounting.
func TestCopyTree(t *testing.T) {
	back := t.TempDir()
	tmp := t.TempDir()
	src := filepath.Join(tmp, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	makeTree(t, src)
	d := mountRW(t, back)
	run(t, tmp, "cp", "-a", src, d.path("cp"))
	run(t, tmp, "rsync", "-aHXS", src+"/", d.path("rsync"))
	check := func() {
		t.Helper()
		for _, name := range []string{"cp", "rsync"} {
			out := run(t, tmp, "rsync", "-aHXnic", "--delete", src+"/", d.path(name)+"/")
			if strings.TrimSpace(out) != "" {
				t.Errorf("%s differs from the original:\n%s", name, out)
			}
		}
	}
	check()
	d.umount()
	d = mountRW(t, back)
	check()
	for _, name := range []string{"cp", "rsync"} {
		var st unix.Stat_t
		if err := unix.Stat(d.path(name, "sparse"), &st); err != nil || st.Blocks*512 > 100_000 {
			t.Errorf("%s: sparse takes %d bytes, %v", name, st.Blocks*512, err)
		}
	}
	run(t, tmp, "cp", "-a", d.path("cp"), filepath.Join(tmp, "out"))
	run(t, tmp, "rsync", "-aHX", d.path("rsync")+"/", filepath.Join(tmp, "out2"))
	for _, name := range []string{"out", "out2"} {
		if out := run(t, tmp, "rsync", "-aHXnic", "--delete", src+"/", filepath.Join(tmp, name)+"/"); strings.TrimSpace(out) != "" {
			t.Errorf("%s differs from the original:\n%s", name, out)
		}
	}
	run(t, tmp, "rm", "-r", d.path("cp"), d.path("rsync"))
	if left := names(t, back); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// SQLite takes 10,000 inserts in rollback and WAL mode and finds its database
// whole, before and after remounting.
func TestSQLite(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			back := t.TempDir()
			d := mountRW(t, back)
			var sql strings.Builder
			fmt.Fprintf(&sql, "pragma journal_mode=%s; create table t(id integer primary key, v text);", mode)
			for batch := range 100 {
				sql.WriteString("begin;")
				for i := range 100 {
					fmt.Fprintf(&sql, "insert into t(v) values('row %d of batch %d');", i, batch)
				}
				sql.WriteString("commit;")
			}
			script := filepath.Join(t.TempDir(), "script")
			write(t, script, []byte(sql.String()))
			run(t, d.dir, "sqlite3", "-bail", "db", ".read "+script)
			check := func() {
				t.Helper()
				got := run(t, d.dir, "sqlite3", "db", "pragma integrity_check; select count(*) from t;")
				if got != "ok\n10000\n" {
					t.Errorf("integrity_check: %q", got)
				}
			}
			check()
			d.umount()
			d = mountRW(t, back)
			check()
			d.umount()
			checkAll(t, back)
		})
	}
}

// When the daemon is killed under SQLite, every transaction that was committed is
// there after remounting, in rollback and WAL mode, with the database mapped.
func TestKillUnderSQLite(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			back := t.TempDir()
			settings := "pragma journal_mode=" + mode + "; pragma synchronous=full; pragma mmap_size=67108864;"
			d := mountRW(t, back)
			run(t, d.dir, "sqlite3", "-bail", "db", settings+"create table t(id integer primary key, v text);")
			last := 0
			for range 3 {
				var sql strings.Builder
				sql.WriteString(settings + "\n")
				for i := last + 1; i < last+5000; i++ {
					fmt.Fprintf(&sql, "insert into t values(%d, '%x'); select 'id', %[1]d;\n", i, text(uint64(i), 500))
				}
				// A line for each commit, and not when the program ends.
				cmd := exec.Command("stdbuf", "-oL", "sqlite3", "-bail", "db")
				cmd.Dir, cmd.Stdin = d.dir, strings.NewReader(sql.String())
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				enough := last + 40
				lines := bufio.NewScanner(out)
				for lines.Scan() {
					if n, err := fmt.Sscanf(lines.Text(), "id|%d", &last); n == 1 && err == nil && last == enough {
						d.cmd.Process.Kill()
					}
				}
				cmd.Wait()
				if last < enough {
					t.Fatalf("SQLite ended after %d transactions", last)
				}
				d.kill()
				d = mountRW(t, back)
				got := run(t, d.dir, "sqlite3", "db", fmt.Sprintf("pragma integrity_check; select count(*) from t where id <= %d; select max(id) from t;", last))
				var have, newest int
				if n, _ := fmt.Sscanf(got, "ok\n%d\n%d\n", &have, &newest); n != 2 || have != last {
					t.Fatalf("after %d commits the database says %q", last, got)
				}
				last = newest
			}
			d.umount()
			checkAll(t, back)
		})
	}
}

// git clones into the mount, and finds the clone whole before and after collecting
// garbage and remounting.
func TestGit(t *testing.T) {
	back := t.TempDir()
	origin := filepath.Join(t.TempDir(), "origin")
	if err := os.Mkdir(origin, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		write(t, filepath.Join(origin, fmt.Sprintf("f%d", i)), text(uint64(i), 500+i*37))
	}
	git := func(dir string, args ...string) string {
		t.Helper()
		return run(t, dir, "git", append([]string{"-c", "user.name=x", "-c", "user.email=x@y", "-c", "gc.auto=0"}, args...)...)
	}
	git(origin, "init", "-q")
	git(origin, "add", ".")
	git(origin, "commit", "-qm", "one")
	d := mountRW(t, back)
	clone := d.path("clone")
	git(d.dir, "clone", "-q", "--no-hardlinks", origin, "clone")
	git(clone, "fsck", "--full", "--strict")
	write(t, filepath.Join(clone, "f1"), []byte("changed"))
	git(clone, "commit", "-qam", "two")
	git(clone, "gc", "-q", "--prune=now")
	git(clone, "fsck", "--full", "--strict")
	d.umount()
	d = mountRW(t, back)
	clone = d.path("clone")
	git(clone, "fsck", "--full", "--strict")
	if out := git(clone, "status", "--porcelain"); out != "" {
		t.Errorf("git status: %s", out)
	}
	same(t, filepath.Join(clone, "f2"), text(2, 500+2*37))
}

// A tree of many small files is created, listed, read and removed within seconds.
func TestManyFiles(t *testing.T) {
	back := t.TempDir()
	d := mountRW(t, back)
	n := 3000
	if testing.Short() {
		n = 500
	}
	if err := os.Mkdir(d.path("many"), 0o755); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for i := range n {
		write(t, d.path("many", fmt.Sprint(i)), text(uint64(i), 300+i%3000))
	}
	t.Logf("created in %v", time.Since(begin))
	d.umount()
	t.Logf("durable after %v", time.Since(begin))
	d = mountRW(t, back)
	begin = time.Now()
	if got := len(names(t, d.path("many"))); got != n {
		t.Errorf("%d names, want %d", got, n)
	}
	run(t, d.dir, "ls", "-lR")
	t.Logf("listed in %v", time.Since(begin))
	begin = time.Now()
	for i := range n {
		same(t, d.path("many", fmt.Sprint(i)), text(uint64(i), 300+i%3000))
	}
	t.Logf("read in %v", time.Since(begin))
	run(t, d.dir, "rm", "-r", "many")
	if left := names(t, back); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// With few descriptors the mount works on trees of any number of files and folders,
// also where folders are renamed that are not open any more.
func TestFewDescriptors(t *testing.T) {
	back := t.TempDir()
	d := start(t, mountSpec{Source: back, Writable: true, Descriptors: 160})
	path := func(i int) string { return d.path("top", fmt.Sprint(i%20), fmt.Sprint(i%7), fmt.Sprint(i)) }
	const folders = 300
	for i := range folders {
		if err := os.MkdirAll(path(i), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(path(i), "f"), text(uint64(i), 100+i))
	}
	if err := os.Rename(d.path("top"), d.path("renamed")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(d.path("renamed"), d.path("top")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(d.path("top", "3"), d.path("top", "3x")); err != nil {
		t.Fatal(err)
	}
	for i := range folders {
		if i%20 != 3 {
			same(t, filepath.Join(path(i), "f"), text(uint64(i), 100+i))
		}
	}
	if got := strings.Count(run(t, d.dir, "find", ".", "-name", "f"), "\n"); got != folders {
		t.Errorf("find shows %d files, want %d", got, folders)
	}
	run(t, d.dir, "rm", "-r", "top")
	if left := names(t, back); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
