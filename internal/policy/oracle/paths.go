package oracle

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// PathFits is H-13: exact, prefix by whole segments, or an expression that must
// match all of it. What counts for H-15 is the length of what was matched: of a
// prefix without the slashes at its end, which are ignored, but for the one of
// the root; an expression matches the whole path.
func PathFits(match api.HTTPPathMatch, path string) (length int, fits bool) {
	value := or(match.Value, "/")
	switch kindOf(match) {
	case api.MatchExact:
		return len(value), path == value
	case api.MatchRegularExpression:
		return len(path), matchesWhole(value, path)
	default:
		prefix := strings.TrimRight(value, "/")
		if prefix == "" {
			return len("/"), true
		}
		return len(prefix), path == prefix || strings.HasPrefix(path, prefix+"/")
	}
}

func kindOf(match api.HTTPPathMatch) api.MatchType {
	if match.Type == nil {
		return api.MatchPathPrefix
	}
	return *match.Type
}

// matchesWhole is false too for what is no expression by itself.
func matchesWhole(expression, text string) bool {
	if _, err := regexp.Compile(expression); err != nil {
		return false
	}
	return regexp.MustCompile("^(?:" + expression + ")$").MatchString(text)
}

// NormalisedPath is the last but one row of 19.1, for the path of a request or of
// a route, without a query. In the documented dialect each segment is decoded
// once, dot segments and empty ones are resolved, and the rest is written with no
// escape that could be spared: paths that every application takes for the same
// come to be the same. clear is false of one that applications could take for
// different ones.
func NormalisedPath(raw string, dialect api.Dialect) (path string, clear bool) {
	if !dialect.PathsNormalised || raw == "*" { // the target that is the server itself
		return raw, true
	}
	below, absolute := strings.CutPrefix(raw, "/")
	if !absolute {
		return raw, false
	}
	var kept []string
	last := ""
	for _, segment := range strings.Split(below, "/") {
		text, err := url.PathUnescape(segment)
		if err != nil || !oneReading(segment, text) {
			return raw, false
		}
		switch text {
		case "", ".":
		case "..":
			if len(kept) == 0 {
				return raw, false // above the root
			}
			kept = kept[:len(kept)-1]
		default:
			kept = append(kept, text)
		}
		last = text
	}
	for _, text := range kept {
		path += "/" + written(text)
	}
	if last == "" || last == "." || last == ".." {
		path += "/"
	}
	return path, true
}

// oneReading reports whether a segment has one reading: it is written in ASCII and is
// text without a control character, and neither has what some applications take
// for the end of a segment or of the path (abuse cases 4, 6, 8 and 10).
func oneReading(segment, text string) bool {
	for _, c := range []byte(segment) {
		if c <= ' ' || c > '~' || c == '#' || c == '?' {
			return false
		}
	}
	for _, c := range []byte(text) {
		if c < ' ' || c == 0x7f || strings.IndexByte(`/\;`, c) >= 0 {
			return false
		}
	}
	return utf8.ValidString(text)
}

// unescaped are the bytes besides letters and digits that a segment may hold as
// they are (RFC 3986, 3.3), without the semicolon.
const unescaped = "-._~!$&'()*+,=:@"

// written is a segment as it is matched: whatever may stand for itself does.
func written(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if letter || c >= '0' && c <= '9' || strings.IndexByte(unescaped, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// pathsMatter reports whether a route that somebody has written tells requests of
// HTTP apart by their paths. Where none does, there is nothing that a path could
// be taken for, and it is left as it is; the built-in routes compare it with what
// probes send (P-04).
func (o Oracle) pathsMatter(routes []Route) bool {
	for _, route := range routes {
		for _, rule := range route.HTTP {
			for _, match := range rule.Matches {
				if match.Path == nil {
					continue
				}
				value, clear := o.Rules.NormalisedPath(or(match.Path.Value, "/"), o.Dialect)
				if kindOf(*match.Path) != api.MatchPathPrefix || !clear || strings.Trim(value, "/") != "" {
					return true
				}
			}
		}
	}
	return false
}

// callFits is CallFits, where in the documented dialect what could be written in
// another way names no call: a client of gRPC has no need of it, and applications
// would read another service or method.
func (o Oracle) callFits(match *api.GRPCMethodMatch, request Request) (length int, fits bool) {
	path, _, _ := strings.Cut(request.Path, "?")
	normalised, clear := o.Rules.NormalisedPath(path, o.Dialect)
	if o.Dialect.PathsNormalised && (!clear || normalised != path || strings.Contains(path, "%")) {
		return 0, false
	}
	return o.Rules.CallFits(match, request)
}
