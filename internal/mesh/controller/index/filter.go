package index

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// redirectStatuses are those that a redirect may answer with.
var redirectStatuses = []int{
	http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
}

const (
	// defaultRedirect is the schema's default (C-28). quirkyRedirect is what
	// Linkerd tells proxies where an object was stored without it (W-21).
	defaultRedirect = http.StatusFound
	quirkyRedirect  = http.StatusOK
)

// readFilters reads a rule's filters. What changes answers is dropped, what sends
// requests elsewhere makes the whole route be ignored.
func (s *RouteSpec) readFilters(field string, filters []api.HTTPRouteFilter, dialect api.Dialect) []Filter {
	var read []Filter
	for i, filter := range filters {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch filter.Type {
		case api.FilterRequestHeaderModifier:
			read = append(read, s.readHeaders(at, filter.RequestHeaderModifier)...)
		case api.FilterRequestRedirect:
			read = append(read, s.readRedirect(at, filter.RequestRedirect, dialect)...)
		default:
			s.readOther(at, filter.Type)
		}
	}
	return read
}

func (s *RouteSpec) readOther(at string, kind api.FilterType) {
	switch kind {
	case api.FilterResponseHeaderModifier:
		s.Dropped.add(at, fmt.Sprintf("%s has no effect on a route of a Server", kind))
	case api.FilterRequestMirror, api.FilterURLRewrite, api.FilterExtensionRef:
		s.Ignored.add(at, fmt.Sprintf("%s cannot be on a route of a Server", kind))
	default:
		s.Problems.add(at+".type", fmt.Sprintf("%q is no filter of such a route", kind))
	}
}

func (s *RouteSpec) readHeaders(at string, modifier *api.HeaderModifier) []Filter {
	at += ".requestHeaderModifier"
	if modifier == nil {
		s.Problems.add(at, "is missing")
		return nil
	}
	headers := func(part string, list []api.HTTPHeader) []Header {
		var read []Header
		for i, header := range list {
			checkHeader(fmt.Sprintf("%s.%s[%d]", at, part, i), header.Name, header.Value, &s.Problems)
			read = append(read, Header{header.Name, header.Value})
		}
		return read
	}
	read := &HeaderModifier{Add: headers("add", modifier.Add), Set: headers("set", modifier.Set)}
	for i, name := range modifier.Remove {
		checkHeader(fmt.Sprintf("%s.remove[%d]", at, i), name, "", &s.Problems)
		read.Remove = append(read.Remove, name)
	}
	return []Filter{{Headers: read}}
}

func (s *RouteSpec) readRedirect(at string, redirect *api.RequestRedirect, dialect api.Dialect) []Filter {
	at += ".requestRedirect"
	if redirect == nil {
		s.Problems.add(at, "is missing")
		return nil
	}
	read := &Redirect{Scheme: valueOr(redirect.Scheme, ""), Host: valueOr(redirect.Hostname, ""), Status: defaultRedirect}
	if redirect.Port != nil {
		port, ok := portNumber(int64(*redirect.Port))
		if !ok {
			s.Problems.add(at+".port", fmt.Sprintf("%d is not between 1 and 65535", *redirect.Port))
		}
		read.Port = port
	}
	switch {
	case redirect.StatusCode == nil && !dialect.QuirksRepaired:
		read.Status = quirkyRedirect
	case redirect.StatusCode == nil:
	case slices.Contains(redirectStatuses, *redirect.StatusCode):
		read.Status = uint32(*redirect.StatusCode)
	default:
		s.Problems.add(at+".statusCode", fmt.Sprintf("%d does not redirect", *redirect.StatusCode))
	}
	if path := redirect.Path; path != nil {
		read.Path, read.PrefixOnly = path.ReplaceFullPath, false
		if path.Type == "ReplacePrefixMatch" {
			read.Path, read.PrefixOnly = path.ReplacePrefixMatch, true
		}
		if read.Path == nil || !strings.HasPrefix(*read.Path, "/") {
			s.Problems.add(at+".path", fmt.Sprintf("%s %q does not begin with /", path.Type, valueOr(read.Path, "")))
		}
	}
	return []Filter{{Redirect: read}}
}

func checkHeader(field, name, value string, problems *Problems) {
	if !httpguts.ValidHeaderFieldName(name) {
		problems.add(field+".name", fmt.Sprintf("%q is not the name of a header", name))
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		problems.add(field+".value", fmt.Sprintf("%q cannot be the value of a header", value))
	}
}
