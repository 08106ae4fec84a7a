package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// databasesSubjects are databases of sqlite3(1), one for each way it has to keep a
// transaction whole.
func databasesSubjects() []*subject {
	var all []*subject
	for _, journal := range []string{"delete", "truncate", "persist", "wal"} {
		// With less, the transaction of a journal that was deleted is durable only later.
		begin := "PRAGMA synchronous=EXTRA; PRAGMA wal_autocheckpoint=20;"
		if journal != "delete" {
			begin = "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=20;"
		}
		begin = ".dbconfig no_ckpt_on_close on\nPRAGMA journal_mode=" + journal + ";" + begin
		all = append(all, &subject{name: "sqlite-" + journal, prepare: func(dir string) error {
			_, err := sqlite(dir, begin+"CREATE TABLE t(v INTEGER PRIMARY KEY, b); CREATE TABLE s(n); INSERT INTO s VALUES(0);")
			return err
		}, change: func(dir string, v int) error {
			_, err := sqlite(dir, begin+fmt.Sprintf("BEGIN; INSERT INTO t VALUES(%d, hex(zeroblob(%d))); UPDATE s SET n = n + 1;"+
				"UPDATE t SET b = b || 'x' WHERE v %% 7 = %d; COMMIT;", v, length(v)%5000, v%7))
			return err
		}, find: findDatabase})
	}
	return all
}

// sqlite runs sqlite3 with the database of dir and returns what it prints.
func sqlite(dir, statements string) (string, error) {
	c := exec.Command("sqlite3", "-bail", filepath.Join(dir, "db"))
	c.Stdin = strings.NewReader(statements)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sqlite3: %w: %s", err, out)
	}
	return string(out), nil
}

// findDatabase has sqlite3 look at a copy of the database.
func findDatabase(f found, lo, hi int) error {
	dir, err := os.MkdirTemp("", "powercut-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"db", "db-journal", "db-wal"} {
		b, err := f.read(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	out, err := sqlite(dir, "PRAGMA integrity_check; SELECT count(*), max(v), (SELECT n FROM s) FROM t;")
	if err != nil {
		return err
	}
	for v := lo; v <= hi; v++ {
		if v < 0 && out == "ok\n0||0\n" || v >= 0 && out == fmt.Sprintf("ok\n%d|%d|%d\n", v+1, v, v+1) {
			return nil
		}
	}
	return fmt.Errorf("sqlite3 says %q", out)
}
