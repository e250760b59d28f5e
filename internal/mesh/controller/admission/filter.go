package admission

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeFilter looks at what filters hold. That the index ignores a route
// with some of them is no reason to refuse it.
func judgeFilter(at string, filter api.HTTPRouteFilter, v *verdict) {
	judgeModifier(at+".requestHeaderModifier", filter.RequestHeaderModifier, v)
	judgeModifier(at+".responseHeaderModifier", filter.ResponseHeaderModifier, v)
	if redirect := filter.RequestRedirect; redirect != nil && redirect.Path != nil {
		judgeReplacement(at+".requestRedirect.path.replaceFullPath", redirect.Path.ReplaceFullPath, v)
		judgeReplacement(at+".requestRedirect.path.replacePrefixMatch", redirect.Path.ReplacePrefixMatch, v)
	}
}

// judgeFilterBody asks for the field that the filter's type names.
func judgeFilterBody(at string, filter api.HTTPRouteFilter, v *verdict) {
	for _, row := range []struct {
		of    api.FilterType
		field string
		there bool
	}{
		{api.FilterRequestHeaderModifier, "requestHeaderModifier", filter.RequestHeaderModifier != nil},
		{api.FilterResponseHeaderModifier, "responseHeaderModifier", filter.ResponseHeaderModifier != nil},
		{api.FilterRequestRedirect, "requestRedirect", filter.RequestRedirect != nil},
	} {
		if filter.Type == row.of && !row.there {
			v.refuse(at+"."+row.field, "is missing")
		}
	}
}

func judgeReplacement(at string, path *string, v *verdict) {
	switch {
	case path == nil:
	case *path == "":
		v.refuse(at, "is empty")
	case !strings.HasPrefix(*path, "/"):
		v.refuse(at, "%q does not begin with /", *path)
	}
}

// judgeModifier looks at names and values of headers.
func judgeModifier(at string, modifier *api.HeaderModifier, v *verdict) {
	if modifier == nil {
		return
	}
	for _, list := range []struct {
		field   string
		headers []api.HTTPHeader
	}{{"set", modifier.Set}, {"add", modifier.Add}} {
		for i, header := range list.headers {
			at := fmt.Sprintf("%s.%s[%d]", at, list.field, i)
			judgeHeaderName(at+".name", header.Name, v)
			judgeHeaderValue(at+".value", header.Value, v)
		}
	}
	for i, name := range modifier.Remove {
		judgeHeaderName(fmt.Sprintf("%s.remove[%d]", at, i), name, v)
	}
}
