package policy

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
)

func fields(pairs ...string) *http_types.Headers {
	msg := &http_types.Headers{}
	for i := 0; i < len(pairs); i += 2 {
		msg.Headers = append(msg.Headers, &http_types.Headers_Header{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return msg
}

func TestHeaderFiltersOfARuleAreCarriedOutInOrder(t *testing.T) {
	type modifier = http_route.RequestHeaderModifier
	for _, tt := range []struct {
		name    string
		filters []*modifier
		want    *Edits
	}{
		{"none", nil, nil},
		{"one of nothing", []*modifier{{}}, nil},
		{"add twice", []*modifier{{Add: fields("X-A", "1", "x-a", "2")}}, &Edits{Append: []Header{{"x-a", "1"}, {"x-a", "2"}}}},
		{"set after add", []*modifier{{Add: fields("X-A", "1"), Set: fields("x-A", "2")}}, &Edits{Set: []Header{{"x-a", "2"}}}},
		{"remove after set", []*modifier{{Set: fields("X-A", "1"), Remove: []string{"x-a"}}}, &Edits{Remove: []string{"x-a"}}},
		{"add after a filter that sets", []*modifier{{Set: fields("x-a", "1")}, {Add: fields("x-a", "2")}}, &Edits{Set: []Header{{"x-a", "1"}}, Append: []Header{{"x-a", "2"}}}},
		{"add after a filter that removes", []*modifier{{Remove: []string{"x-a"}}, {Add: fields("x-a", "1", "x-a", "2")}}, &Edits{Set: []Header{{"x-a", "1"}}, Append: []Header{{"x-a", "2"}}}},
		{"the mesh's own and the connection's", []*modifier{{
			Add: fields("L5d-Client-Id", "root", "l5d-orig-proto", "HTTP/1.1"), Set: fields("Content-Length", "7", "Host", "x", "Connection", "x-a"), Remove: []string{"TE", "Transfer-Encoding"},
		}}, nil},
	} {
		edits := editor{}
		for _, filter := range tt.filters {
			if err := edits.add(filter); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		if diff := cmp.Diff(tt.want, edits.result()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	for name, filter := range map[string]*modifier{
		"a name with a space":         {Set: fields("x a", "1")},
		"no name":                     {Remove: []string{""}},
		"a name with a line end":      {Remove: []string{"x\r\ny"}},
		"a value with a line end":     {Add: fields("x", "1\r\nl5d-client-id: root")},
		"a value with a zero octet":   {Set: fields("x", "\x00")},
		"an HTTP/2 pseudo-header":     {Set: fields(":path", "/admin")},
		"a name that is not lettered": {Add: fields("é", "1")},
	} {
		if err := new(editor).add(filter); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is taken for valid: %v", name, err)
		}
	}
}
