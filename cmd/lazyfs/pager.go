package main

import (
	"context"

	"github.com/spf13/pflag"
)

var pagerCommand = command{
	name:     "pager",
	args:     []string{""},
	summary:  "Serve the faults of a program's mappings",
	internal: true,
	about: `The library starts this command by itself for programs that do not call
uffdmap.Main; it means nothing on a command line.`,
	declare: func(*pflag.FlagSet) action {
		return func(context.Context, []string) error {
			return usagef("is started by the library only")
		}
	},
}
