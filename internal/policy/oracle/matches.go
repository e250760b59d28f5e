package oracle

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// HostFits is H-12: case and one trailing dot do not count, nor does the port;
// "*.x" wants at least one more label. An exact host is more specific than any
// suffix, a longer suffix more than a shorter one.
func HostFits(pattern, authority string) (length int, fits bool) {
	host := strings.ToLower(authority)
	if i := strings.LastIndex(host, ":"); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	pattern = strings.TrimSuffix(strings.ToLower(pattern), ".")
	if suffix, wild := strings.CutPrefix(pattern, "*."); wild {
		before, ok := strings.CutSuffix(host, "."+suffix)
		return len(suffix), ok && before != ""
	}
	const exact = 1 << 16 // longer than any suffix
	return exact, host == pattern
}

// PathFits is H-13: exact, prefix by whole segments, or an expression that must
// match all of it. What counts for H-15 is the length of what was matched: an
// expression matches the whole path.
func PathFits(match api.HTTPPathMatch, path string) (length int, fits bool) {
	value := or(match.Value, "/")
	kind := api.MatchPathPrefix
	if match.Type != nil {
		kind = *match.Type
	}
	switch kind {
	case api.MatchExact:
		return len(value), path == value
	case api.MatchRegularExpression:
		return len(path), matchesWhole(value, path)
	default:
		prefix := strings.TrimSuffix(value, "/")
		return len(value), path == prefix || strings.HasPrefix(path, prefix+"/")
	}
}

func matchesWhole(expression, text string) bool {
	compiled, err := regexp.Compile("^(?:" + expression + ")$")
	return err == nil && compiled.MatchString(text)
}

// ValueFits compares one header or parameter with the values that the request
// has for it (H-14).
func ValueFits(match api.HTTPValueMatch, values []string) bool {
	for _, value := range values {
		if match.Type != nil && *match.Type == api.MatchRegularExpression {
			if matchesWhole(match.Value, value) {
				return true
			}
		} else if value == match.Value {
			return true
		}
	}
	return false
}

// MethodFits is H-14 for methods, which are case-sensitive.
func MethodFits(want, got string) bool { return want == got }

// CallFits is H-17: only POST on /service/method is a call; nil, or a match that
// gives nothing, means every call. Service and method compare exactly.
func CallFits(match *api.GRPCMethodMatch, request Request) (length int, fits bool) {
	path, _, _ := strings.Cut(request.Path, "?")
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || service == "" || method == "" || strings.Contains(method, "/") || !strings.HasPrefix(path, "/") || request.Method != "POST" {
		return 0, false
	}
	if match == nil {
		return 0, true
	}
	wantService, wantMethod := or(match.Service, ""), or(match.Method, "")
	fits = (wantService == "" || wantService == service) && (wantMethod == "" || wantMethod == method)
	return len(wantService) + len(wantMethod), fits
}

// NormalisedPath is the last but one row of 19.1: in the documented dialect dot
// segments, doubled slashes and escapes of unreserved characters are resolved
// once, and what could still mean two things is not clear. The query is no part
// of it.
func NormalisedPath(raw string, dialect api.Dialect) (path string, clear bool) {
	path, _, _ = strings.Cut(raw, "?")
	if !dialect.PathsNormalised {
		return path, true
	}
	var decoded strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			return path, false
		case c != '%':
			decoded.WriteByte(c)
			continue
		case i+2 >= len(path):
			return path, false
		}
		one, err := url.PathUnescape(path[i : i+3])
		switch {
		case err != nil, one == "/", one == "\\", one == "\x00":
			return path, false
		case unreserved(one[0]):
			decoded.WriteString(one)
		default:
			decoded.WriteString(path[i : i+3])
		}
		i += 2
	}
	var segments []string
	for _, segment := range strings.Split(decoded.String(), "/") {
		switch segment {
		case "..":
			segments = segments[:max(len(segments)-1, 0)]
		case ".", "":
		default:
			segments = append(segments, segment)
		}
	}
	whole := decoded.String()
	path = "/" + strings.Join(segments, "/")
	directory := strings.HasSuffix(whole, "/") || strings.HasSuffix(whole, "/.") || strings.HasSuffix(whole, "/..")
	if directory && path != "/" {
		path += "/"
	}
	return path, strings.HasPrefix(whole, "/")
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func headerValues(request Request, name string) []string {
	var values []string
	for key, value := range request.Headers {
		if strings.EqualFold(key, name) {
			values = append(values, value)
		}
	}
	return values
}

// queryValues is the first value of a parameter, which is the one that counts.
func queryValues(request Request, name string) []string {
	_, query, _ := strings.Cut(request.Path, "?")
	parsed, err := url.ParseQuery(query)
	if err != nil {
		return nil
	}
	values := parsed[name]
	return values[:min(1, len(values))]
}
