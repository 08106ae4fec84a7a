package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const sizeUnits = "KMGTPE"

var errSize = errors.New("want a number of bytes such as 4096, 0x1000, 64K, 1M or 2G")

// parseSize reads a number of bytes: decimal or, after 0x, hexadecimal digits,
// and one of the binary units.
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	hex := len(text) > 2 && (text[:2] == "0x" || text[:2] == "0X")
	if n := len(text); n > 1 {
		// In a hexadecimal number E is a digit.
		if i := strings.IndexByte(sizeUnits, text[n-1]&^0x20); i >= 0 && !(hex && sizeUnits[i] == 'E') {
			digits, shift = text[:n-1], 10*(i+1)
		}
	}
	base := 10
	if hex {
		digits, base = digits[2:], 16
	}
	n, err := strconv.ParseUint(digits, base, 63)
	if errors.Is(err, strconv.ErrRange) || n > math.MaxInt64>>shift {
		return 0, errors.New("too large")
	}
	if err != nil {
		return 0, errSize
	}
	return int64(n << shift), nil
}

// shortSize writes n as parseSize reads it, with the largest unit that divides it.
func shortSize(n int64) string {
	unit := ""
	for i := 0; i < len(sizeUnits) && n != 0 && n%1024 == 0; i++ {
		n, unit = n/1024, sizeUnits[i:i+1]
	}
	return strconv.FormatInt(n, 10) + unit
}

// humanSize writes n for people, rounded.
func humanSize(n int64) string {
	if n < 1024 {
		return count(int(n), "byte")
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(sizeUnits)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, sizeUnits[i])
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
