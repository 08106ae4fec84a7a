package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// check --repair writes what can be read into a new store beside the damaged one,
// which it leaves as it is, and exits with 1 when something is lost. It never
// replaces a file.
func TestRepair(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 10*16384)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	damageFrame(t, dir+"/x.lazy", 2)
	image := read(t, dir+"/x.lazy")

	r := lazyfs(t, dir, "check", "--repair", "x.lazy")
	failed(t, r, 1, "lazyfs check: 1 range lost or doubtful in 1 repaired store")
	if !strings.HasPrefix(r.out, "x.lazy: lost: plain bytes 0x8000 to 0xc000: frame at offset 0x") ||
		!strings.HasSuffix(r.out, "\nx.lazy: repaired as x.repaired.lazy\n") {
		t.Errorf("check --repair prints %q", r.out)
	}
	clear(plain[2*16384 : 3*16384])
	must(t, dir, "check", "x.repaired.lazy")
	if got := must(t, dir, "cat", "x.repaired.lazy"); got != string(plain) {
		t.Error("the repaired store has other bytes")
	}
	if !bytes.Equal(read(t, dir+"/x.lazy"), image) {
		t.Error("check --repair changed the damaged store")
	}
	fails(t, dir, 3, "lazyfs check: x.repaired.lazy: exists", "check", "--repair", "x.lazy")
	if got := list(t, dir); !slices.Equal(got, []string{"plain", "x.lazy", "x.repaired.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
}

// Without superblocks a store is found by its frames; the report says what is a
// guess. What holds nothing of a store is refused.
func TestRepairWithoutSuperblocks(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 100_000)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "--frame", "4K", "plain", "x.lazy")
	image := read(t, dir+"/x.lazy")
	clear(image[:4096])
	write(t, dir+"/x.lazy", image)
	r := lazyfs(t, dir, "check", "--json", "--repair", "x.lazy")
	failed(t, r, 1, "lazyfs check: 1 range lost or doubtful")
	var results []struct {
		Store, Repaired string
		OK              bool
		Lost            []struct {
			Length int64 `json:"plain_length"`
			Cause  string
		}
	}
	if err := json.Unmarshal([]byte(r.out), &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 || results[0].OK || results[0].Repaired != "x.repaired.lazy" || len(results[0].Lost) != 1 ||
		!strings.Contains(results[0].Lost[0].Cause, "4096 bytes, and 100000 bytes") {
		t.Errorf("check --repair --json prints %s", r.out)
	}
	if got := must(t, dir, "cat", "x.repaired.lazy"); got != string(plain) {
		t.Error("the repaired store has other bytes")
	}
	fails(t, dir, 3, "lazyfs check: repair plain: not a page store", "check", "--repair", "plain")
	if got := list(t, dir); !slices.Equal(got, []string{"plain", "x.lazy", "x.repaired.lazy"}) {
		t.Errorf("folder holds %q", got)
	}
}

// What can't be repaired keeps nothing else from being repaired and reported.
func TestRepairGoesOn(t *testing.T) {
	dir := t.TempDir()
	plain := text(1, 10*16384)
	write(t, dir+"/plain", plain)
	must(t, dir, "pack", "plain", "x.lazy")
	damageFrame(t, dir+"/x.lazy", 2)
	r := lazyfs(t, dir, "check", "--json", "--repair", "plain", "x.lazy")
	const cause = "repair plain: not a page store: no superblock, no frame and no index node is whole"
	failed(t, r, 3, "lazyfs check: "+cause+"; 1 range lost or doubtful in 1 repaired store\n")
	var results []struct {
		Store, Error string
		OK           bool
		Lost         []any
	}
	if err := json.Unmarshal([]byte(r.out), &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != 2 || results[0].OK || results[0].Error != cause ||
		results[1].Store != "x.lazy" || results[1].Error != "" || len(results[1].Lost) != 1 {
		t.Errorf("check --repair --json prints %s", r.out)
	}
	must(t, dir, "check", "x.repaired.lazy")
}

// A store whose name leaves no room for that of the repaired one is told so.
func TestRepairLongName(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("x", 245)
	write(t, dir+"/plain", nil)
	must(t, dir, "pack", "plain", name+".lazy")
	fails(t, dir, 3, "lazyfs check: lstat "+name+".repaired.lazy: file name too long\n", "check", "--repair", name+".lazy")
}

// A repaired store has the mode and the time of the damaged one.
func TestRepairKeepsMode(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 1000))
	must(t, dir, "pack", "plain", "x.lazy")
	hour := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Chmod(dir+"/x.lazy", 0o600), os.Chtimes(dir+"/x.lazy", hour, hour)); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "check", "--repair", "x.lazy")
	a, errA := os.Stat(dir + "/x.lazy")
	b, errB := os.Stat(dir + "/x.repaired.lazy")
	if errA != nil || errB != nil || a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) {
		t.Errorf("repaired store has other mode or time: %v, %v (%v, %v)", a, b, errA, errB)
	}
}
