package store

import (
	"fmt"
	"strconv"
	"strings"
)

// pageNames turns page numbers into names of page files and back.
type pageNames struct {
	prefix, suffix string
	digits         int // at least so many, filled up with zeros
}

// parsePageNames takes a pattern apart: text, %d or %0Nd, text.
func parsePageNames(pattern string) (pageNames, error) {
	bad := fmt.Errorf("pattern %q: want the name of a page file with one %%d in it, or %%04d and the like", pattern)
	prefix, rest, found := strings.Cut(pattern, "%")
	width, suffix, verb := strings.Cut(rest, "d")
	if !found || !verb || strings.Contains(suffix, "%") || strings.ContainsAny(pattern, "/\x00") {
		return pageNames{}, bad
	}
	if width == "" {
		return pageNames{prefix, suffix, 1}, nil
	}
	digits, err := strconv.ParseUint(width, 10, 8)
	if err != nil || len(width) > 3 || width[0] != '0' || digits < 1 || digits > 18 {
		return pageNames{}, bad
	}
	return pageNames{prefix, suffix, int(digits)}, nil
}

func (n pageNames) name(page int64) string {
	return fmt.Sprintf("%s%0*d%s", n.prefix, n.digits, page, n.suffix)
}

// number is the page whose file has this name; ok is false for other files. A
// number that no store can have is ErrTooLarge.
func (n pageNames) number(name string) (page int64, ok bool, err error) {
	digits, hasPrefix := strings.CutPrefix(name, n.prefix)
	digits, hasSuffix := strings.CutSuffix(digits, n.suffix)
	if !hasPrefix || !hasSuffix || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false, nil
	}
	u, err := strconv.ParseUint(digits, 10, 64)
	if len(digits) < n.digits || len(digits) > n.digits && digits[0] == '0' {
		return 0, false, nil
	}
	if err != nil || u >= MaxSize/PageSize {
		return 0, false, fmt.Errorf("page number %s: %w", digits, ErrTooLarge)
	}
	return int64(u), true, nil
}
