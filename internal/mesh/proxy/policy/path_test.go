package policy

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// plainReading is NormalPath without care for memory: the same rules, step by step.
func plainReading(raw string) (path string, ok bool) {
	if raw == "*" {
		return raw, true
	}
	if !strings.HasPrefix(raw, "/") {
		return "", false
	}
	var out, octets []byte
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' {
			if c <= 0x20 || c >= 0x7f || strings.IndexByte(`\;#?`, c) >= 0 {
				return "", false
			}
			out, octets = append(out, c), append(octets, c)
			continue
		}
		if i+2 >= len(raw) {
			return "", false
		}
		high, okHigh := unhex(raw[i+1])
		low, okLow := unhex(raw[i+2])
		b := high<<4 | low
		if !okHigh || !okLow || b < 0x20 || b == 0x7f || strings.IndexByte(`/\;`, b) >= 0 {
			return "", false
		}
		octets = append(octets, b)
		if unreserved(b) {
			out = append(out, b)
		} else {
			out = append(out, strings.ToUpper(raw[i:i+3])...)
		}
		i += 2
	}
	if !utf8.Valid(octets) {
		return "", false
	}
	var segments []string
	parts := strings.Split(string(out[1:]), "/")
	for i, part := range parts {
		switch part {
		case "", ".":
		case "..":
			if len(segments) == 0 {
				return "", false
			}
			segments = segments[:len(segments)-1]
		default:
			segments = append(segments, part)
			continue
		}
		if i == len(parts)-1 {
			segments = append(segments, "")
		}
	}
	return "/" + strings.Join(segments, "/"), true
}

// comparePaths holds NormalPath against the plain reading, with and without
// memory to write to, and against itself.
func comparePaths(t *testing.T, raw string) {
	t.Helper()
	want, wantOK := plainReading(raw)
	for _, buf := range [][]byte{nil, bytes.Repeat([]byte{'x'}, len(raw))} {
		sent := []byte(raw)
		path, ok := NormalPath(sent, buf)
		if ok != wantOK || ok && string(path) != want {
			t.Errorf("%q -> %q, %v, want %q, %v", raw, path, ok, want, wantOK)
		}
		if string(sent) != raw {
			t.Errorf("%q was changed to %q", raw, sent)
		}
		if !ok || raw == "*" {
			continue
		}
		p := string(path)
		if strings.Contains(p, "//") || strings.Contains(p, "/./") || strings.Contains(p, "/../") || strings.HasSuffix(p, "/..") || strings.HasSuffix(p, "/.") || !strings.HasPrefix(p, "/") {
			t.Errorf("%q -> %q", raw, p)
		}
		if again, ok := NormalPath(path, nil); !ok || string(again) != p {
			t.Errorf("%q -> %q -> %q, %v", raw, p, again, ok)
		}
		// The form it is matched in means the same, is reached once, and is the only one.
		form, _ := matchForm(path, []byte("before"))
		again, _ := matchForm(form, nil)
		before, err := url.PathUnescape(p)
		after, errAfter := url.PathUnescape(string(form))
		if before != after || err != nil || errAfter != nil || !bytes.Equal(form, again) {
			t.Errorf("%q is matched as %q, and that as %q", p, form, again)
		}
		if other, _ := matchForm([]byte((&url.URL{Path: before}).EscapedPath()), nil); !bytes.Equal(form, other) {
			t.Errorf("%q is matched as %q, and written otherwise as %q", p, form, other)
		}
	}
}

func TestPathsOfFewLettersHaveTheirPlainReading(t *testing.T) {
	alphabet := []string{"/", ".", "a", "%2e", "%C3", "%a9", "%2f", "*", "%", "%2c", "["}
	var all func(prefix string, left int)
	all = func(prefix string, left int) {
		comparePaths(t, prefix)
		if left == 0 || t.Failed() {
			return
		}
		for _, letter := range alphabet {
			all(prefix+letter, left-1)
		}
	}
	all("", 3)
	all("/", 5)
}

func FuzzNormalPath(f *testing.F) {
	f.Add("/a/../b/%2e%2e/c")
	f.Add("//x;y/%")
	f.Add("/%F0%9F%98%80/%E2%82")
	f.Fuzz(func(t *testing.T, raw string) { comparePaths(t, raw) })
}
