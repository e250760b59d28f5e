package policy

import (
	"net/url"
	"testing"
)

// compareQueries holds parameter against net/url, for each name that either knows.
// Of what net/url finds malformed, parameter may know less, but nothing else.
func compareQueries(t *testing.T, query string, names ...string) {
	t.Helper()
	want, malformed := url.ParseQuery(query)
	for name := range want {
		names = append(names, name)
	}
	for _, name := range names {
		value, _, ok := parameter([]byte(query), name, nil)
		switch {
		case ok && string(value) != want.Get(name), ok && !want.Has(name), !ok && malformed == nil && want.Has(name):
			t.Errorf("%q of %q: got %q, %v, want %q", name, query, value, ok, want[name])
		}
	}
}

// A pair that applications read in several ways, or skip, decides for its name: no
// later one counts.
func TestAFirstValueWithoutOneMeaningIsNone(t *testing.T) { // abuse case 15
	for query, want := range map[string]string{
		"v=%zz&v=2": "", "v=%2&v=2": "", "v=1;x&v=2": "", "x;v=1&v=2": "", "v;x=1&v=2": "", "%76=%&v=2": "", "x;%76&v=2": "",
		"w=%zz&v=2": "2", "%zz=1&v=2": "2", "w;x=v&v=2": "2", "&v=2": "2", ";&v=2": "2", "v=2&v=%zz": "2", "v=2&v;": "2",
	} {
		value, _, ok := parameter([]byte(query), "v", nil)
		if ok != (want != "") || string(value) != want {
			t.Errorf("?%s: got %q, %v", query, value, ok)
		}
	}
}

func TestQueriesAreReadAsGoReadsThem(t *testing.T) {
	for _, query := range []string{
		"", "v", "v=", "v=1", "v=1&v=2", "&v=1", "v=a=b", "v=%zz&v=2", "%zz=1&v=2", "v=%2", "v=1;w=2&v=3", "a+b=c+d", "%76=x", "=x", "v=%C3%A9", "v=%2b+%2B", "x=%76&v=1%261",
	} {
		compareQueries(t, query, "v", "w", "a b", "")
	}
}

func FuzzParameter(f *testing.F) {
	f.Add("v=%41+&v;=2&x=%", "v")
	f.Fuzz(func(t *testing.T, query, name string) { compareQueries(t, query, name) })
}
