package test

import (
	"debug/elf"
	"strings"
	"testing"
)

var commandNames = []string{"pack", "unpack", "info", "check", "compact", "copy", "cat", "dump", "bench", "mount", "umount", "pager"}

// Every command explains itself on standard output and exits with 0.
func TestHelp(t *testing.T) {
	global := must(t, "", "--help")
	for _, name := range commandNames {
		if name != "pager" && !strings.Contains(global, "\n  "+name+" ") {
			t.Errorf("lazyfs --help does not list %s", name)
		}
		help := must(t, "", name, "--help")
		for _, part := range []string{"\nUsage:\n  lazyfs " + name, "\nFlags:\n", "--help"} {
			if !strings.Contains(help, part) {
				t.Errorf("lazyfs %s --help: %q is missing", name, part)
			}
		}
		if name != "pager" && !strings.Contains(help, "\nExamples:\n") {
			t.Errorf("lazyfs %s --help has no examples", name)
		}
		if again := must(t, "", "--help", name); again != help {
			t.Errorf("lazyfs --help %s differs from lazyfs %s --help", name, name)
		}
		if short := must(t, "", name, "-h"); short != help {
			t.Errorf("lazyfs %s -h differs from lazyfs %s --help", name, name)
		}
	}
	if v := must(t, "", "--version"); !strings.HasPrefix(v, "lazyfs ") || strings.Count(v, "\n") != 1 {
		t.Errorf("lazyfs --version prints %q", v)
	}
}

// Wrong command lines give exit code 2 and one line that helps.
func TestBadUsage(t *testing.T) {
	for _, c := range []struct{ args, line string }{
		{"", "lazyfs: no command: lazyfs --help lists them"},
		{"--quite", "lazyfs: unknown flag --quite: lazyfs --help shows the flags"},
		{"pak a b", `lazyfs: unknown command "pak": did you mean pack?`},
		{"frobnicate", `lazyfs: unknown command "frobnicate": lazyfs --help lists the commands`},
		{"pack", "lazyfs pack: 0 arguments given: usage is lazyfs pack [flags] SRC STORE or --pages PATTERN FOLDER STORE\n"},
		{"info --mount", "lazyfs info: 0 arguments given: usage is lazyfs info [flags] STORE... or --mount DIR...\n"},
		{"pack a", "lazyfs pack: 1 argument given: usage is lazyfs pack [flags] SRC STORE"},
		{"pack a b c", "lazyfs pack: 3 arguments given: usage is lazyfs pack [flags] SRC STORE"},
		{"pack --fame 16K a b", "lazyfs pack: unknown flag --fame: did you mean --frame?"},
		{"pack -x a b", "lazyfs pack: unknown flag -x: lazyfs pack --help shows the flags"},
		{"pack a b --frame", "lazyfs pack: --frame: needs a value: lazyfs pack --help shows which"},
		{"mount a b -o", "lazyfs mount: --options: needs a value: lazyfs mount --help shows which"},
		{"pack a b --frame 3K", "lazyfs pack: --frame 3K: want a power of two from 4K to 1M"},
		{"pack a b --frame 2M", "lazyfs pack: --frame 2M: want a power of two from 4K to 1M"},
		{"pack a b --frame x", "lazyfs pack: --frame x: want a number of bytes such as 4096, 0x1000, 64K, 1M or 2G"},
		{"pack a b --codec zip", "lazyfs pack: --codec zip: "},
		{"pack a b --level 99", "lazyfs pack: --level 99: "},
		{"pack a b --level x", "lazyfs pack: --level x: invalid syntax"},
		{"pack a b --jobs 0", "lazyfs pack: --jobs 0: want 1 to 1024"},
		{"pack a -", "lazyfs pack: -: a store can't be written to standard output: ./- would be a file"},
		{"copy a -", "lazyfs copy: -: a store can't be written to standard output: ./- would be a file"},
		{"pack a b --jobs x", "lazyfs pack: --jobs x: invalid syntax"},
		{"pack a b --json=x", "lazyfs pack: --json x: invalid syntax"},
		{"bench file a --randseed 18446744073709551616", "lazyfs bench: --randseed 18446744073709551616: value out of range"},
		{"mount -o rw,cache=x a b", "lazyfs mount: --options rw,cache=x: cache=x: want a number of bytes such as 4096, 0x1000, 64K, 1M or 2G"},
		{"mount -o rw,level=x a b", "lazyfs mount: --options rw,level=x: level=x: invalid syntax"},
		{"unpack --jobs -1 a b", "lazyfs unpack: --jobs -1: want 1 to 1024"},
		{"cat a x", "lazyfs cat: x: want a number of bytes such as 4096, 0x1000, 64K, 1M or 2G"},
		{"cat a 8E", "lazyfs cat: 8E: too large"},
		{"info", "lazyfs info: 0 arguments given: usage is lazyfs info [flags] STORE..."},
		{"info --mount --map=a.png a", "lazyfs info: --map: has no meaning with --mount"},
		{"mount --codec lz4 a b", "lazyfs mount: --codec: has no meaning without --rw"},
		{"umount", "lazyfs umount: 0 arguments given: usage is lazyfs umount [flags] DIR"},
		{"pager", "lazyfs pager: is started by the library only"},
	} {
		t.Run(c.args, func(t *testing.T) {
			r := lazyfs(t, t.TempDir(), strings.Fields(c.args)...)
			failed(t, r, 2, c.line)
			if r.out != "" {
				t.Errorf("standard output is %q, want nothing", r.out)
			}
		})
	}
}

// An empty argument, as from an unset variable, does not mean the working folder, and
// an empty value not that the flag is not there.
func TestEmptyArgument(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"mount", "", "mnt"}, {"mount", ".", ""}, {"umount", ""}, {"pack", "", "x.lazy"}, {"check", ""}} {
		fails(t, dir, 2, "lazyfs "+args[0]+": an argument is empty: usage is lazyfs "+args[0]+" [flags] ", args...)
	}
	for _, args := range [][]string{{"pack", "--pages", "", ".", "x"}, {"info", "--map=", "x"}, {"bench", "--output", "", "file", "x"}, {"mount", "--log", "", ".", "mnt"}, {"mount", "-o", "log=", ".", "mnt"}} {
		r := lazyfs(t, dir, args...)
		failed(t, r, 2, "lazyfs "+args[0]+": --")
		if !strings.Contains(r.err, ": needs a value: lazyfs "+args[0]+" --help shows which\n") {
			t.Errorf("%q: %s", args, r.err)
		}
	}
}

// What can't be done gives exit code 3 and one line: command, what, cause.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/plain", text(1, 100000))
	write(t, dir+"/folder/file", nil)
	must(t, dir, "pack", "plain", "x.lazy")
	for _, c := range []struct{ args, line string }{
		{"pack none y.lazy", "lazyfs pack: stat none: no such file or directory"},
		{"pack plain x.lazy", "lazyfs pack: x.lazy: exists: --force replaces it"},
		{"pack plain none/y.lazy", "lazyfs pack: create in none: no such file or directory"},
		{"pack plain folder", "lazyfs pack: folder: not a regular file: it can't be replaced"},
		{"unpack x.lazy /dev/null", "lazyfs unpack: /dev/null: not a regular file: it can't be replaced"},
		{"pack --force plain folder", "lazyfs pack: folder: not a regular file: it can't be replaced"},
		{"pack --force plain plain", "lazyfs pack: plain: is the same file as plain"},
		{"pack folder x.lazy", "lazyfs pack: x.lazy: exists: a folder is never replaced"},
		{"pack --force folder x.lazy", "lazyfs pack: x.lazy: exists: a folder is never replaced"},
		{"pack folder folder/sub", "lazyfs pack: folder/sub: lies in the folder folder itself"},
		{"unpack none y", "lazyfs unpack: stat none: no such file or directory"},
		{"unpack plain y", "lazyfs unpack: "},
		{"unpack x.lazy plain", "lazyfs unpack: plain: exists: --force replaces it"},
		{"unpack --force x.lazy x.lazy", "lazyfs unpack: x.lazy: is the same file as x.lazy"},
		{"info plain", "lazyfs info: "},
		{"check none", "lazyfs check: "},
		{"copy x.lazy plain", "lazyfs copy: plain: exists: --force replaces it"},
		{"cat x.lazy 1M", "lazyfs cat: x.lazy: offset 0x100000: the plain data ends at 0x186a0"},
		{"dump plain", "lazyfs dump: "},
		{"mount none folder", "lazyfs mount: "},
		{"mount x.lazy none", "lazyfs mount: lstat "},
		{"umount folder", "lazyfs umount: folder: nothing is mounted here"},
		{"umount /proc", "lazyfs umount: /proc: is not a lazyfs mount but proc"},
	} {
		t.Run(c.args, func(t *testing.T) {
			r := lazyfs(t, dir, strings.Fields(c.args)...)
			failed(t, r, 3, c.line)
			if r.out != "" {
				t.Errorf("standard output is %q, want nothing", r.out)
			}
		})
	}
	if got := strings.Join(list(t, dir), " "); got != "folder plain x.lazy" {
		t.Errorf("failed commands left %q", got)
	}
}

// A name that would do something to a terminal does nothing in an error.
func TestFailureOfOddName(t *testing.T) {
	fails(t, t.TempDir(), 3, "lazyfs info: open a; b?[2J?c: no such file or directory\n", "info", "a\nb\x1b[2J\rc")
}

// Nor in an answer, where it does not look like several answers either.
func TestAnswerOfOddName(t *testing.T) {
	dir := t.TempDir()
	odd, shown := "a\nb: ok\x1b[2J\rc", "a?b: ok?[2J?c"
	write(t, dir+"/"+odd, text(1, 1000))
	mnt := odd + ".mnt"
	for _, c := range []struct {
		args  []string
		lines int
	}{
		{[]string{"pack", odd, odd + ".lazy"}, 1},
		{[]string{"unpack", odd + ".lazy", odd + ".back"}, 1},
		{[]string{"check", odd + ".lazy"}, 1},
		{[]string{"check", "--repair", odd + ".lazy"}, 1},
		{[]string{"info", odd + ".lazy"}, 11},
		{[]string{"compact", odd + ".lazy"}, 1},
		{[]string{"mount", odd + ".lazy", mnt}, 1},
		{[]string{"info", "--mount", mnt}, 11},
	} {
		var out string
		if c.args[0] == "mount" {
			out = mountStore(t, dir, c.args[1:]...)
		} else {
			out = must(t, dir, c.args...)
		}
		if !strings.HasPrefix(out, shown) || strings.Count(out, "\n") != c.lines || strings.ContainsAny(out, "\x1b\r") {
			t.Errorf("lazyfs %q prints %q, want %d lines that begin with %q", c.args, out, c.lines, shown)
		}
	}
	must(t, dir, "umount", mnt)
}

// The program needs nothing but the kernel.
func TestStaticallyLinked(t *testing.T) {
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("program has a %v segment", p.Type)
		}
	}
}
