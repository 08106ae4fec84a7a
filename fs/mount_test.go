package fs_test

import (
	"strings"
	"testing"

	"lazyfs/codec"
	"lazyfs/fs"
)

// Options that can't be followed are refused, and not ignored or found out by who makes a file.
func TestMountRefusesOptions(t *testing.T) {
	for want, o := range map[string]fs.Options{
		`restriction is "nosiud"`:     {Restrict: []string{"nodev", "nosiud"}},
		"frame size is 3000 bytes":    {FrameSize: 3000},
		"frame size is 2097152 bytes": {FrameSize: 2 << 20},
		"level":                       {Codec: codec.Zstd, Level: 1000},
	} {
		s, err := fs.Mount(t.TempDir(), t.TempDir(), o)
		if err == nil {
			s.Unmount()
			t.Errorf("%+v are taken", o)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("Mount gives %q, want %q", err, want)
		}
	}
}
