package uffdmap

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lazyfs/store"
)

// Helpers share the program's session, and with it its cores, but neither what a
// terminal sends to the program's process group nor what one sends to those in the
// background, nor what a broken pipe sends. A new pair is as the first.
func TestMapHelpersSession(t *testing.T) {
	m := mustMap(t, pack(t, content(1<<20, 26), store.CreateOptions{}), Options{})
	defer m.Close()
	session, err := unix.Getsid(0)
	must(t, "getsid", err)
	for range 2 {
		old, err := living(rolePager)
		must(t, "find the pager", err)
		for _, role := range []string{rolePager, roleStandby} {
			pid, err := living(role)
			must(t, "find the "+role, err)
			if got, err := unix.Getsid(pid); err != nil || got != session {
				t.Errorf("%s %d is in session %d (%v), want %d", role, pid, got, err, session)
			}
			if got, err := unix.Getpgid(pid); err != nil || got == unix.Getpgrp() {
				t.Errorf("%s %d is in the program's process group %d (%v)", role, pid, got, err)
			}
			for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGTTOU, unix.SIGPIPE} {
				if !ignores(t, pid, s) {
					t.Errorf("%s %d does not ignore %v", role, pid, s)
				}
			}
		}
		must(t, "kill", unix.Kill(old, unix.SIGKILL))
		eventually(t, "a new pair", func() bool {
			now := helper(os.Getpid(), rolePager)
			return now != 0 && now != old && helper(os.Getpid(), roleStandby) != 0
		})
	}
}

// ignores says whether process pid ignores signal s.
func ignores(t *testing.T, pid int, s unix.Signal) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, "read status", err)
	_, rest, _ := strings.Cut(string(b), "\nSigIgn:")
	var mask uint64
	if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &mask); err != nil {
		t.Fatal(err)
	}
	return mask>>(s-1)&1 != 0
}
