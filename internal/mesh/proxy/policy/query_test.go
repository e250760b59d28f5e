package policy

import (
	"net/url"
	"testing"
)

// compareQueries holds parameter against net/url, for each name that either knows.
func compareQueries(t *testing.T, query string, names ...string) {
	t.Helper()
	want, _ := url.ParseQuery(query)
	for name := range want {
		names = append(names, name)
	}
	for _, name := range names {
		value, _, ok := parameter([]byte(query), name, nil)
		if ok != want.Has(name) || string(value) != want.Get(name) {
			t.Errorf("%q of %q: got %q, %v, want %q", name, query, value, ok, want[name])
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
