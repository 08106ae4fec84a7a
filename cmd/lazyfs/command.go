package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// A command is one word of the command line and all that is known about it.
type command struct {
	name     string
	args     []string // what follows the flags, one line for each form
	min, max int      // number of arguments; max < 0: no limit
	summary  string   // one line, begins with a capital, no full stop
	about    string   // the rest of the help: whole sentences
	examples []string
	internal bool // not listed

	// declare adds the command's flags to f and returns what runs it once they
	// are parsed.
	declare func(f *pflag.FlagSet) action
}

// An action runs a command on its arguments.
type action func(ctx context.Context, args []string) error

// commands lists all commands in the order of the help.
var commands = []command{
	packCommand,
	unpackCommand,
	infoCommand,
	checkCommand,
	compactCommand,
	copyCommand,
	catCommand,
	dumpCommand,
	benchCommand,
	mountCommand,
	umountCommand,
	pagerCommand,
}

func findCommand(name string) (command, error) {
	var names []string
	for _, c := range commands {
		if c.name == name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return command{}, usagef("unknown command %q: %s", name, hint(name, names, "lazyfs --help lists the commands"))
}

// run parses the flags in args and runs the command on what remains.
func (c command) run(ctx context.Context, args []string) error {
	f := newFlagSet(c.name)
	act := c.declare(f)
	help := f.BoolP("help", "h", false, "show this help and exit")
	if err := parseFlags(f, args, "lazyfs "+c.name+" --help"); err != nil {
		return err
	}
	if *help {
		return c.help(os.Stdout, f)
	}
	usage := fmt.Sprintf("usage is lazyfs %s [flags] %s", c.name, strings.Join(c.args, " or "))
	if n := f.NArg(); n < c.min || c.max >= 0 && n > c.max {
		return usagef("%s given: %s", count(n, "argument"), usage)
	}
	// An empty path would mean the working folder to some functions.
	if slices.Contains(f.Args(), "") {
		return usagef("an argument is empty: %s", usage)
	}
	return act(ctx, f.Args())
}

func (c command) help(w io.Writer, f *pflag.FlagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\nUsage:\n", c.summary)
	for _, args := range c.args {
		fmt.Fprintf(&b, "  lazyfs %s [flags] %s\n", c.name, args)
	}
	fmt.Fprintf(&b, "\n%s\n\nFlags:\n%s", strings.TrimSpace(c.about), f.FlagUsages())
	if len(c.examples) > 0 {
		fmt.Fprintf(&b, "\nExamples:\n  %s\n", strings.Join(c.examples, "\n  "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// runGlobal answers a command line without a command.
func runGlobal(args []string) error {
	f := newFlagSet("lazyfs")
	help := f.BoolP("help", "h", false, "show this help and exit; with a command: the command's")
	version := f.Bool("version", false, "show the version and exit")
	if err := parseFlags(f, args, "lazyfs --help"); err != nil {
		return err
	}
	switch {
	case *help:
		return globalHelp(os.Stdout, f)
	case *version:
		_, err := fmt.Println("lazyfs", buildVersion())
		return err
	}
	return usageError{errors.New("no command: lazyfs --help lists them")}
}

func globalHelp(w io.Writer, f *pflag.FlagSet) error {
	var b strings.Builder
	b.WriteString("Compressed files whose pages are decompressed when they are touched.\n\nUsage:\n  lazyfs COMMAND [flags] [arguments]\n\nCommands:\n")
	for _, c := range commands {
		if !c.internal {
			fmt.Fprintf(&b, "  %-8s %s\n", c.name, c.summary)
		}
	}
	fmt.Fprintf(&b, `
Flags:
%s
Flags may stand before or after arguments; -- ends them. A SIZE is a number of
bytes, or a number followed by K, M, G or T (powers of 1024); 0x begins a
hexadecimal number.

Exit codes:
`, f.FlagUsages())
	for code, meaning := range exitMeanings {
		fmt.Fprintf(&b, "  %d  %s\n", code, meaning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
