package main

import (
	"math"
	"testing"
)

// parseSize takes what the help promises, and nothing that overflows or that
// could be meant in two ways.
func TestParseSize(t *testing.T) {
	good := map[string]int64{
		"0":                   0,
		"4096":                4096,
		"64K":                 64 << 10,
		"64k":                 64 << 10,
		"1M":                  1 << 20,
		"2G":                  2 << 30,
		"3T":                  3 << 40,
		"7E":                  7 << 60,
		"0x1000":              4096,
		"0X1f":                31,
		"0x1E":                30,
		"0x10K":               16 << 10,
		"010":                 10,
		"9223372036854775807": math.MaxInt64,
	}
	for text, want := range good {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "K", "-1", "+1", "1.5M", "1KB", "1 K", "0x", "0xK", "1_000", "x", "8E", "9223372036854775808", "9007199254740992K"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

// What shortSize writes, parseSize reads.
func TestShortSize(t *testing.T) {
	for _, n := range []int64{0, 1, 1023, 1024, 1025, 16 << 10, 256 << 20, 1<<40 + 1024, math.MaxInt64} {
		if got, err := parseSize(shortSize(n)); got != n || err != nil {
			t.Errorf("parseSize(shortSize(%d)) = %d, %v", n, got, err)
		}
	}
	if got := shortSize(16 << 10); got != "16K" {
		t.Errorf("shortSize(16384) = %s, want 16K", got)
	}
}

// A rounded size never shows 1024 of a unit.
func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{
		0:             "0 bytes",
		1:             "1 byte",
		1023:          "1023 bytes",
		1024:          "1.0 KiB",
		1<<20 - 1:     "1.0 MiB",
		1536 << 20:    "1.5 GiB",
		math.MaxInt64: "8.0 EiB",
	} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %s, want %s", n, got, want)
		}
	}
}
