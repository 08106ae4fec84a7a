package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"lazyfs/store"
)

// A dump ends when it is interrupted.
func TestDumpInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lazy")
	s, err := store.Create(path, store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := dump(ctx, []string{path}); !errors.Is(err, context.Canceled) {
		t.Errorf("dump: %v, want %v", err, context.Canceled)
	}
}
