package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nobody is an ordinary user.
const nobody = "65534"

// asUser runs the script user as an ordinary user who may open /dev/fuse, as on
// a usual system, and then the script root as root, in a mount namespace of
// their own. $lazyfs is the program.
func asUser(t *testing.T, dir, user, root string) string {
	t.Helper()
	const setUp = `
		mkdir dev && mount -t tmpfs -o dev,mode=755 none dev
		mknod -m 666 dev/fuse c 10 229
		mount --bind dev/fuse /dev/fuse
		setpriv --reuid $nobody --regid $nobody --clear-groups sh -euc "$user"
		sh -euc "$root"`
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("unshare", "--mount", "sh", "-euc", setUp)
	c.Dir = dir
	c.Env = append(os.Environ(), "nobody="+nobody, "lazyfs="+binary, "user="+user, "root="+root)
	c.Env = append(c.Env, "XDG_RUNTIME_DIR=")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
	return string(out)
}

// A folder in which a user may make files, but not list them, is as good as another.
func TestUnlistedFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	write(t, dir+"/folder/plain", text(2, 1000))
	asUser(t, dir, `
		mkdir -m 300 drop
		$lazyfs pack --quiet plain drop/x.lazy
		$lazyfs pack --quiet folder drop/stores
		$lazyfs copy --quiet drop/x.lazy drop/y.lazy
		$lazyfs unpack --quiet drop/y.lazy drop/back
		cmp drop/back plain`, "")
}

// An ordinary user can do it all: pack, mount, write, unmount, and be told why
// not, by way of fusermount3.
func TestOrdinaryUser(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	// The owner of what a user makes is that user, who gets no one else's
	// set-user-id program that way.
	write(t, dir+"/suid", text(2, 1000))
	if err := os.Chmod(dir+"/suid", 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	out := asUser(t, dir, `
		$lazyfs pack --quiet suid suid.lazy
		test $(stat -c %a suid) = 4755
		test $(stat -c %a suid.lazy) = 755

		mkdir mnt stores
		$lazyfs pack --quiet plain stores/x.lazy
		$lazyfs mount stores/x.lazy mnt
		cmp mnt/x plain
		$lazyfs umount mnt

		$lazyfs mount --rw --quiet stores mnt
		cp plain mnt/y
		cd mnt
		$lazyfs umount ../mnt && exit 9
		cd ..
		$lazyfs umount mnt
		$lazyfs cat stores/y.lazy | cmp - plain

		$lazyfs mount stores /etc && exit 9
		$lazyfs mount --allow-other stores mnt && exit 9

		$lazyfs mount --rw --quiet stores mnt
		kill -KILL $(tr -dc '0-9,' < /tmp/lazyfs-$nobody/$(mountpoint -d mnt) | cut -d, -f1)
		$lazyfs umount mnt && exit 9
		echo done
	`, "")
	for _, want := range []string{
		"mnt: stores/x.lazy mounted read-only\n",
		"lazyfs umount: " + dir + "/mnt: is busy: in use by sh (pid ",
		"lazyfs umount: " + dir + "/mnt: unmounted, but its daemon (pid ",
		// What fusermount3 says comes through it, and nothing beside it.
		"\nlazyfs mount: /etc: fusermount3: user has no write access to mountpoint /etc\nlazyfs mount: " +
			dir + "/mnt: fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf\n",
		"done\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("as an ordinary user: %q is missing in\n%s", want, out)
		}
	}
}

// root can unmount what an ordinary user has mounted, and waits for the daemon
// as the user would.
func TestUmountOfUser(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1<<20))
	out := asUser(t, dir, `
		mkdir mnt stores
		$lazyfs mount --rw --quiet stores mnt
		cp plain mnt/y
	`, `
		$lazyfs umount mnt
		$lazyfs cat stores/y.lazy | cmp - plain
		! mountpoint -q mnt
	`)
	if out != "" {
		t.Errorf("root's umount says:\n%s", out)
	}
}

// An ordinary user is told which mount it is that is not his, and it stays.
func TestUmountOfRoot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/stores/README", nil)
	mountStore(t, dir, "stores", "mnt")
	out := asUser(t, dir, `$lazyfs umount mnt || echo "exit code $?"`, "")
	if !strings.HasPrefix(out, "lazyfs umount: "+dir+"/mnt: open /run/lazyfs/") || !strings.HasSuffix(out, ": permission denied\nexit code 3\n") {
		t.Errorf("a user's umount says %q, want that the mount's record is not for him", out)
	}
	must(t, dir, "umount", "mnt")
}

// XDG_RUNTIME_DIR may be the folder of another user, as after su(1), a file, or relative:
// the mount is found all the same.
func TestRuntimeFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1000))
	asUser(t, dir, `
		mkdir mnt relative
		$lazyfs pack --quiet plain x.lazy
		for XDG_RUNTIME_DIR in /root "$PWD/plain" relative; do
			export XDG_RUNTIME_DIR
			$lazyfs mount --quiet x.lazy mnt
			(cd / && $lazyfs umount "$OLDPWD/mnt")
		done
		rmdir relative`, "")
}

// A umask that denies the owner everything is that of what a user makes, and keeps
// lazyfs itself from nothing.
func TestUmask(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/folder/sub/plain", text(1, 1000))
	asUser(t, dir, `
		mkdir mnt tmp
		umask 0777
		$lazyfs pack --quiet folder stores
		cat folder/sub/plain | $lazyfs pack --quiet - x.lazy
		$lazyfs bench file --rw=write --size=4k new >/dev/null
		for name in x.lazy new; do
			test $(stat -c %a $name) = 0
		done
		XDG_RUNTIME_DIR=$PWD/tmp $lazyfs mount --quiet stores mnt
		cmp mnt/sub/plain folder/sub/plain
		XDG_RUNTIME_DIR=$PWD/tmp $lazyfs umount mnt`, "")
}
