package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	"golang.org/x/net/http/httpguts"
)

// Edits are what the header filters of a rule come to, in the relays' terms. They
// are made once per message; names are in lower case.
type Edits struct {
	// Remove are names of fields that the application must not see.
	Remove []string
	// Set replace all fields of their names.
	Set []Header
	// Append come in addition to the client's fields, or to one in Set.
	Append []Header
}

// untouched are fields that no filter changes: they belong to a connection, tell
// where a message ends or whom it is for, or are the mesh's own (I-07, H-01).
var untouched = []string{
	"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer",
	"content-length", "host", "l5d-client-id", "l5d-orig-proto",
}

// editor carries out header filters one after another on fields that are not known yet.
type editor struct{ names []*edited }

// edited is what becomes of the fields of one name.
type edited struct {
	name   string
	gone   bool // the client's are not sent on
	values []string
}

// add carries out one modifier: additions, then sets, then removals.
func (e *editor) add(msg *http_route.RequestHeaderModifier) error {
	for _, h := range msg.GetAdd().GetHeaders() {
		if err := e.value(h, false); err != nil {
			return err
		}
	}
	for _, h := range msg.GetSet().GetHeaders() {
		if err := e.value(h, true); err != nil {
			return err
		}
	}
	for _, name := range msg.GetRemove() {
		field, err := e.field(name)
		if err != nil {
			return err
		}
		field.gone, field.values = true, nil
	}
	return nil
}

func (e *editor) value(h *http_types.Headers_Header, set bool) error {
	field, err := e.field(h.GetName())
	if err != nil {
		return err
	}
	value := string(h.GetValue())
	if !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("%w: filter with a value that no field %s can have", ErrInvalid, field.name)
	}
	if set {
		field.gone, field.values = true, nil
	}
	field.values = append(field.values, value)
	return nil
}

func (e *editor) field(name string) (*edited, error) {
	name = strings.ToLower(name)
	if !httpguts.ValidHeaderFieldName(name) {
		return nil, fmt.Errorf("%w: filter of a field that cannot be, %q", ErrInvalid, name)
	}
	for _, field := range e.names {
		if field.name == name {
			return field, nil
		}
	}
	field := &edited{name: name}
	e.names = append(e.names, field)
	return field, nil
}

// result is what all modifiers come to; nil for nothing.
func (e *editor) result() *Edits {
	var edits Edits
	for _, field := range e.names {
		if slices.Contains(untouched, field.name) {
			continue
		}
		values := field.values
		if field.gone && len(values) > 0 {
			edits.Set = append(edits.Set, Header{Name: field.name, Value: values[0]})
			values = values[1:]
		} else if field.gone {
			edits.Remove = append(edits.Remove, field.name)
		}
		for _, value := range values {
			edits.Append = append(edits.Append, Header{Name: field.name, Value: value})
		}
	}
	if len(edits.Remove)+len(edits.Set)+len(edits.Append) == 0 {
		return nil
	}
	return &edits
}
