package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fenced gives the fenced blocks of a Markdown file that are marked as being in
// the language, which may be "".
func fenced(text, language string) []string {
	var blocks []string
	block, open, wanted := "", false, false
	for line := range strings.Lines(text) {
		mark, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open:
			if wanted {
				blocks = append(blocks, block)
			}
			open = false
		case fence:
			block, open, wanted = "", true, mark == language
		case open:
			block += line
		}
	}
	return blocks
}

// commandLines gives the command lines of program in a line of shell: what
// follows its name up to a pipe, a list operator, a redirection or a comment.
func commandLines(program, line string) [][]string {
	var all [][]string
	line, _, _ = strings.Cut(line, " #")
	for _, part := range regexp.MustCompile(`&&|[|;&><()]`).Split(line, -1) {
		words := strings.Fields(part)
		for i, w := range words {
			if w == program || strings.HasSuffix(w, "/"+program) {
				all = append(all, words[i+1:])
				break
			}
		}
	}
	return all
}

// Every command, flag and make target in the documents exists.
func TestDocumentedCommands(t *testing.T) {
	targets := regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(string(read(t, "../Makefile")), -1)
	seen := make(map[string]bool)
	for _, file := range []string{"README.md", "ARCHITECTURE.md"} {
		for line := range strings.Lines(strings.Join(fenced(string(read(t, "../"+file)), ""), "")) {
			line = strings.TrimSpace(line)
			for _, args := range commandLines("lazyfs", line) {
				if len(args) == 0 || strings.HasPrefix(args[0], "-") {
					continue
				}
				name := args[0]
				if !slices.Contains(commandNames, name) {
					t.Errorf("%s: %q: there is no command %s", file, line, name)
					continue
				}
				seen[name] = true
				help := must(t, "", name, "--help")
				for _, a := range args[1:] {
					flag, _, _ := strings.Cut(a, "=")
					if strings.HasPrefix(flag, "-") && flag != "-" && !strings.Contains(help, " "+flag+" ") && !strings.Contains(help, " "+flag+",") {
						t.Errorf("%s: %q: lazyfs %s has no flag %s", file, line, name, flag)
					}
				}
			}
			for _, args := range commandLines("make", line) {
				for _, target := range args {
					if !slices.ContainsFunc(targets, func(m []string) bool { return m[1] == target }) {
						t.Errorf("%s: %q: there is no target %s", file, line, target)
					}
				}
			}
		}
	}
	for _, name := range commandNames {
		if !seen[name] && name != "pager" {
			t.Errorf("the documents show no use of lazyfs %s", name)
		}
	}
}

// The quick start works as it stands.
func TestQuickStart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/disk.img", text(1, 3<<20))
	if err := os.Mkdir(dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, dir+"/bin/lazyfs"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/mnt", unix.MNT_DETACH) }) // fails when the quick start has done it
	script := strings.Join(fenced(string(read(t, "../README.md")), ""), "")
	script = regexp.MustCompile(`(?m)^make.*$`).ReplaceAllString(script, "")
	c := exec.Command("sh", "-euc", script)
	c.Dir = dir
	r := finish(t, c)
	if r.code != 0 || r.err != "" {
		t.Fatalf("the quick start ends with %d\n%s%s", r.code, r.out, r.err)
	}
	if !bytes.Equal(read(t, dir+"/copy.img"), read(t, dir+"/disk.img")) {
		t.Error("the quick start's copy.img is not its disk.img")
	}
	if got := must(t, dir, "cat", "copy.lazy"); got != string(read(t, "/etc/hosts"))+"127.0.0.1 lazy\n" {
		t.Errorf("the quick start's hosts file is %q", got)
	}
}

// The README's program can be built outside of this repository, in the way that the
// README says, and does what it says.
func TestDocumentedProgram(t *testing.T) {
	dir := t.TempDir()
	readme := string(read(t, "../README.md"))
	programs := fenced(readme, "go")
	if len(programs) != 1 {
		t.Fatalf("README.md shows %d programs, want 1", len(programs))
	}
	write(t, dir+"/program/main.go", []byte(programs[0]))
	module := "module program\n\ngo 1.26\n"
	for _, line := range regexp.MustCompile("`((?:require|replace) [^`]+)`").FindAllStringSubmatch(readme, -1) {
		module += line[1] + "\n"
	}
	write(t, dir+"/program/go.mod", []byte(module))
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(top, dir+"/lazyfs"); err != nil {
		t.Fatal(err)
	}
	// With -trimpath what was built under another path is in the cache.
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-trimpath", "-o", dir + "/run"}} {
		c := exec.Command("go", args...)
		c.Dir = dir + "/program"
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go %s of the README's program: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	write(t, dir+"/plain", append([]byte("lazy "), text(1, 100000)...))
	must(t, dir, "pack", "plain", "x.lazy")
	run := exec.Command(dir+"/run", "x.lazy")
	run.Dir = dir
	if r := finish(t, run); r != (result{out: "it begins with \"lazy \"\n"}) {
		t.Errorf("the README's program gives %+v", r)
	}
	if got := must(t, dir, "cat", "x.lazy", "0", "5"); got != "hello" {
		t.Errorf("after the README's program the store begins with %q, want hello", got)
	}
}

// The table of packages in ARCHITECTURE.md names what each one imports, and
// nothing else.
func TestDocumentedImports(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| \[([a-z/]+)\]\([^)]+\) \|[^|]*\|([^|]*)\|$`)
	rows := row.FindAllStringSubmatch(string(read(t, "../ARCHITECTURE.md")), -1)
	if len(rows) != len(arrows) {
		t.Errorf("ARCHITECTURE.md lists %d packages, want %d", len(rows), len(arrows))
	}
	for _, m := range rows {
		pkg, names := m[1], strings.FieldsFunc(m[2], func(r rune) bool { return r == ' ' || r == ',' })
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "lazyfs/"+pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		used := make(map[string]bool)
		for imported := range strings.FieldsSeq(string(out)) {
			first, _, _ := strings.Cut(imported, "/")
			if first != "lazyfs" && !strings.Contains(first, ".") || strings.HasPrefix(imported, "golang.org/x/sys/") {
				continue
			}
			i := slices.IndexFunc(names, func(name string) bool {
				return imported == "lazyfs/"+name || first != "lazyfs" && strings.Contains(imported+"/", "/"+name+"/")
			})
			if i < 0 {
				t.Errorf("ARCHITECTURE.md does not say that %s imports %s", pkg, imported)
				continue
			}
			used[names[i]] = true
		}
		for _, name := range names {
			if !used[name] {
				t.Errorf("ARCHITECTURE.md says that %s imports %s", pkg, name)
			}
		}
	}
}
