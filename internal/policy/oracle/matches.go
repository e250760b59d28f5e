package oracle

import (
	"net/url"
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

// ValueFits compares one header or parameter with the values that the request
// has for it (H-14). All of several must fit: which of them an application goes
// by, nobody knows (abuse case 14).
func ValueFits(match api.HTTPValueMatch, values []string) bool {
	for _, value := range values {
		if match.Type != nil && *match.Type == api.MatchRegularExpression {
			if !matchesWhole(match.Value, value) {
				return false
			}
		} else if value != match.Value {
			return false
		}
	}
	return len(values) > 0
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

func headerValues(request Request, name string) []string {
	var values []string
	for key, value := range request.Headers {
		if strings.EqualFold(key, name) {
			values = append(values, value)
		}
	}
	return values
}

// queryValues is the first value of a parameter, which is the one that counts;
// none when it is malformed, or when it or one before it is the first for those
// only who take a semicolon for a border (abuse case 15).
func queryValues(request Request, name string) []string {
	_, query, _ := strings.Cut(request.Path, "?")
	for _, pair := range strings.Split(query, "&") {
		parts := strings.Split(pair, ";")
		for _, part := range parts {
			key, value, _ := strings.Cut(part, "=")
			if decoded, err := url.QueryUnescape(key); err != nil || decoded != name || part == "" {
				continue
			}
			decoded, err := url.QueryUnescape(value)
			if err != nil || len(parts) > 1 {
				return nil
			}
			return []string{decoded}
		}
	}
	return nil
}
