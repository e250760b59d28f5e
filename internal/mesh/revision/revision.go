// Package revision says how old a policy is, so that a proxy that is passed from one
// replica of the policy controller to another never goes back.
//
// A replica's cache is a list per kind, each kept up to date by a watch of its own,
// so a policy is of no single moment. Its Revision says for each kind the span of
// resourceVersions during which the kind's objects were what the policy was computed
// from: from the newest change that the cache has taken, to the version up to which
// it is known to have them all. Within the span nothing changed, so
//
//	message A in force, message B comes: B is older when for any kind B.To < A.From
//
// and bookmarks, which raise To alone, make no replica seem older than another.
// (100, 90) is not followed by (110, 50), nor (110, 50) by (100, 90).
//
//	replica --label of each message: Revision--> proxy
//	replica <--request metadata: Least---------- proxy, the From of what it holds
//	replica --response header: void kinds------> proxy
//
// The label stands beside those that Linkerd's proxies read, and these pass over it.
// A replica does not answer before its cache is at or past Least, so what was held
// back comes without any further change. A proxy checks all the same, drops what is
// older, and asks again.
//
// resourceVersions of one cluster grow; only a store that was brought back from a
// backup makes them less. No clock decides that this is so: a replica that is behind
// Least asks the API server, and a consistent answer below what the proxy holds
// proves that the proxy's revision belongs to no history that is still going on. The
// replica then calls the kind void, and the proxy forgets what it held of it. Who
// cannot reach the API server can prove nothing, and the last policy stays.
//
// It refuses to compare what has no revision: a controller that says none, as
// Linkerd's does, is believed.
package revision

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	// Label is the key of a Revision among the labels of a policy message.
	Label = "meshproof-revision"
	// LeastKey is the key of a Least in the request's metadata.
	LeastKey = "meshproof-least-revision"
	// VoidKey is the key, in the answer's header, of the kinds of which the proxy
	// must forget what it asked for; see Kinds.
	VoidKey = "meshproof-void-revision"
)

// maxKinds bounds what is read from the network; there are eleven kinds.
const maxKinds = 64

// errForm is wrapped by every refusal to read a text.
var errForm = errors.New("malformed revision")

// Span are the resourceVersions between which a kind did not change; both belong to
// it.
type Span struct{ From, To uint64 }

// Revision is a Span per kind, ordered by kind. It is never changed once made.
type Revision []Part

// Part is what a Revision says of one kind.
type Part struct {
	// Kind has none of the characters "=", "-" and ",".
	Kind string
	Span
}

// New makes a Revision.
func New(spans map[string]Span) Revision {
	r := make(Revision, 0, len(spans))
	for kind, span := range spans {
		r = append(r, Part{kind, span})
	}
	slices.SortFunc(r, func(a, b Part) int { return cmp.Compare(a.Kind, b.Kind) })
	return r
}

// String is the form in which it is sent: KIND=FROM-TO, or KIND=FROM where both are
// one, with commas between.
func (r Revision) String() string {
	var b strings.Builder
	for i, part := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(part.Kind)
		b.WriteByte('=')
		b.WriteString(strconv.FormatUint(part.From, 10))
		if part.To != part.From {
			b.WriteByte('-')
			b.WriteString(strconv.FormatUint(part.To, 10))
		}
	}
	return b.String()
}

// Parse reads what String writes, in any order.
func Parse(text string) (Revision, error) {
	spans := map[string]Span{}
	err := each(text, func(kind, value string) (err error) {
		if _, twice := spans[kind]; twice {
			return fmt.Errorf("%w: %s twice", errForm, kind)
		}
		from, to, ranged := strings.Cut(value, "-")
		var span Span
		if span.From, err = number(from); err != nil {
			return err
		}
		if span.To = span.From; ranged {
			if span.To, err = number(to); err != nil {
				return err
			}
		}
		if span.To < span.From {
			return fmt.Errorf("%w: %s ends before it begins", errForm, kind)
		}
		spans[kind] = span
		return nil
	})
	if err != nil {
		return nil, err
	}
	return New(spans), nil
}

// Least is what a policy must be as new as, per kind. The nil map asks for nothing.
type Least map[string]uint64

// Least is what others must have to be no older.
func (r Revision) Least() Least {
	least := make(Least, len(r))
	for _, part := range r {
		least[part.Kind] = part.From
	}
	return least
}

// Behind lists the kinds, in order, of which r lacks what least asks for.
func (r Revision) Behind(least Least) []string {
	var behind []string
	for kind, version := range least {
		at, known := slices.BinarySearchFunc(r, kind, func(part Part, kind string) int { return cmp.Compare(part.Kind, kind) })
		if !known || r[at].To < version {
			behind = append(behind, kind)
		}
	}
	slices.Sort(behind)
	return behind
}

// With asks for both; neither is changed.
func (l Least) With(other Least) Least {
	both := make(Least, max(len(l), len(other)))
	maps.Copy(both, l)
	for kind, version := range other {
		both[kind] = max(both[kind], version)
	}
	return both
}

// Without asks for nothing of these kinds; l is not changed.
func (l Least) Without(kinds []string) Least {
	rest := maps.Clone(l)
	for _, kind := range kinds {
		delete(rest, kind)
	}
	return rest
}

// String is the form in which it is sent: that of a Revision.
func (l Least) String() string {
	spans := make(map[string]Span, len(l))
	for kind, version := range l {
		spans[kind] = Span{version, version}
	}
	return New(spans).String()
}

// ParseLeast reads what String writes.
func ParseLeast(text string) (Least, error) {
	r, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return r.Least(), nil
}

// Kinds is the form in which kinds are sent.
func Kinds(kinds []string) string { return strings.Join(kinds, ",") }

// ParseKinds reads what Kinds writes. Names that nobody asked about harm nothing.
func ParseKinds(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func each(text string, take func(kind, value string) error) error {
	if text == "" {
		return nil
	}
	n := 0
	for part := range strings.SplitSeq(text, ",") {
		if n++; n > maxKinds {
			return fmt.Errorf("%w: more than %d kinds", errForm, maxKinds)
		}
		kind, value, ok := strings.Cut(part, "=")
		if !ok || kind == "" {
			return fmt.Errorf("%w: %.50q is not KIND=FROM-TO", errForm, part)
		}
		if err := take(kind, value); err != nil {
			return err
		}
	}
	return nil
}

func number(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.50q is not a version", errForm, text)
	}
	return n, nil
}
