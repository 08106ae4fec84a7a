package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The exit codes.
const (
	exitDone = iota
	exitNotSo
	exitUsage
	exitFailed
)

// exitMeanings says what each exit code means; the help shows it.
var exitMeanings = [...]string{
	exitDone:   "done",
	exitNotSo:  "the thing asked about is not so: damage was found",
	exitUsage:  "bad usage",
	exitFailed: "failed",
}

// A usageError says that the command line itself is wrong.
type usageError struct{ error }

func usagef(format string, a ...any) error {
	return usageError{fmt.Errorf(format, a...)}
}

// errStoreToOutput is for who expects - to be standard output, as in unpack: a store is
// not written from its beginning to its end.
var errStoreToOutput = usagef("-: a store can't be written to standard output: ./- would be a file")

// A notSoError is the answer no to a question, not a failure.
type notSoError struct{ error }

// A toldError is the exit code of a process, a child or this one as a daemon, that
// has told itself what went wrong.
type toldError int

func (e toldError) Error() string {
	return fmt.Sprintf("child process ended with exit code %d", int(e))
}

// exitCode maps the error of a command to an exit code.
func exitCode(err error) int {
	var told toldError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &told):
		return int(told)
	case errors.As(err, new(usageError)):
		return exitUsage
	case !slices.ContainsFunc(parts(err), isFailure):
		return exitNotSo
	}
	return exitFailed
}

func isFailure(err error) bool { return !errors.As(err, new(notSoError)) }

// parts are the errors that err joins, or err alone.
func parts(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, parts(e)...)
	}
	return all
}

// errorLine is the one line that tells the user about err, or "" when there is
// nothing to tell. name is the command's, or "" before one is known.
func errorLine(name string, err error) string {
	if err == nil || errors.As(err, new(toldError)) {
		return ""
	}
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
		for _, e := range parts(err) {
			if !errors.Is(e, context.Canceled) {
				text += "; " + e.Error()
			}
		}
	}
	who := "lazyfs"
	if name != "" {
		who += " " + name
	}
	return who + ": " + oneLine(text)
}

// oneLine is text without an end of a line. What a file's name in it would do to a
// terminal it does not do.
func oneLine(text string) string {
	return printable(strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}
