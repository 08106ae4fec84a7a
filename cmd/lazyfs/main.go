// Command lazyfs packs files into stores, looks into stores, and mounts them.
//
// Each command lies in the file of its name, as one value of type command; the
// table in command.go lists them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"lazyfs/uffdmap"
)

func main() {
	uffdmap.Main() // does not return in a helper process

	os.Args = asCommand(os.Args) // a daemon repeats them
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and returns the exit code.
//
// The first SIGINT, SIGTERM or SIGHUP cancels the command, which cleans up. A second
// SIGINT or SIGTERM ends the program at once; no SIGHUP does, since of one closed
// terminal the shell and the kernel both tell. Where SIGHUP is ignored, as under
// nohup(1), it stays so.
func run(args []string) int {
	signals := []os.Signal{unix.SIGINT, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		signals = append(signals, unix.SIGHUP)
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP) // keeps it caught after stop
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop)

	name, err := dispatch(ctx, args)
	if line := errorLine(name, err); line != "" {
		fmt.Fprintln(os.Stderr, line)
	}
	return exitCode(err)
}

// dispatch runs the command that args name, and returns its name with its error.
func dispatch(ctx context.Context, args []string) (name string, err error) {
	// Flags before the command's name belong to the command.
	first := 0
	for first < len(args) && strings.HasPrefix(args[first], "-") {
		first++
	}
	if first == len(args) {
		return "", runGlobal(args)
	}
	c, err := findCommand(args[first])
	if err != nil {
		return "", err
	}
	return c.name, c.run(ctx, append(args[:first:first], args[first+1:]...))
}
