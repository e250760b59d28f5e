package admission

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeMatch looks at paths, headers and parameters of the query.
func judgeMatch(at string, match api.HTTPRouteMatch, v *verdict) {
	if path := match.Path; path != nil && path.Value != nil {
		at := at + ".path.value"
		if path.Type != nil && *path.Type == api.MatchRegularExpression {
			judgeExpression(at, *path.Value, v)
		} else if !strings.HasPrefix(*path.Value, "/") {
			v.refuse(at, "%q does not begin with /", *path.Value)
		}
	}
	for i, header := range match.Headers {
		at := fmt.Sprintf("%s.headers[%d]", at, i)
		judgeHeaderName(at+".name", header.Name, v)
		if expression(header) {
			judgeExpression(at+".value", header.Value, v)
		} else {
			judgeHeaderValue(at+".value", header.Value, v)
		}
	}
	for i, param := range match.QueryParams {
		if expression(param) {
			judgeExpression(fmt.Sprintf("%s.queryParams[%d].value", at, i), param.Value, v)
		}
	}
}

func expression(match api.HTTPValueMatch) bool {
	return match.Type != nil && *match.Type == api.MatchRegularExpression
}

func judgeExpression(at, text string, v *verdict) {
	if _, err := regexp.Compile(text); err != nil {
		v.refuse(at, "%q is no regular expression: %s", text, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func judgeHeaderName(at, name string, v *verdict) {
	if !httpguts.ValidHeaderFieldName(name) {
		v.refuse(at, "%q is no header's name", name)
	}
}

func judgeHeaderValue(at, value string, v *verdict) {
	if !httpguts.ValidHeaderFieldValue(value) {
		v.refuse(at, "%q is no header's value", value)
	}
}
