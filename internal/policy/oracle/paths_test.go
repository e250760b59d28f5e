package oracle_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/proxytest/readers"
)

// agreed are the lines of a list that judge and proxy are each held against.
func agreed(t *testing.T, name string) (cases [][2]string) {
	t.Helper()
	text, err := os.ReadFile("../testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		sent, meant, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && sent != "#" {
			cases = append(cases, [2]string{sent, strings.TrimSpace(meant)})
		}
	}
	if len(cases) == 0 {
		t.Fatalf("%s has no case", name)
	}
	return cases
}

func TestPathsMeanWhatWasAgreed(t *testing.T) {
	for _, c := range agreed(t, "paths.txt") {
		got, clear := oracle.NormalisedPath(c[0], api.Documented())
		if !clear {
			got = "400"
		}
		if got != c[1] {
			t.Errorf("%s is matched as %s, want %s", c[0], got, c[1])
		}
		if raw, clear := oracle.NormalisedPath(c[0], api.Linkerd()); raw != c[0] || !clear {
			t.Errorf("dialect linkerd: %s is matched as %s, want it as it is", c[0], raw)
		}
	}
}

func TestQueriesSayWhatWasAgreed(t *testing.T) {
	for _, c := range agreed(t, "queries.txt") {
		matching := func(expression string) string {
			return "rules: [{matches: [{queryParams: [{name: q, type: RegularExpression, value: " + strconv.Quote(expression) + "}]}]}]"
		}
		want, err := strconv.Unquote(c[1])
		if exists := err == nil; exists != fitsQuery(t, matching(".*"), c[0]) {
			t.Errorf("?%s has a q: %v, want %v", c[0], !exists, exists)
		} else if exists && !fitsQuery(t, matching("(?:"+regexp.QuoteMeta(want)+")"), c[0]) {
			t.Errorf("the q of ?%s is not %q", c[0], want)
		}
	}
}

// fitsQuery asks whether a route matches a query, in both dialects alike.
func fitsQuery(t *testing.T, spec, query string) bool {
	t.Helper()
	fits := map[oracle.Outcome]bool{}
	r := row{objects: opened(httpRoute("r", spec)), ask: "GET /?" + query, from: "unmeshed"}
	for _, dialect := range r.dialects(t) {
		fits[r.judge(t, dialect, oracle.DefaultRules()).Outcome] = true
	}
	if len(fits) != 1 {
		t.Errorf("?%s: %v", query, fits)
	}
	return fits[oracle.Delivered]
}

// TestPathsAreMatchedAsApplicationsReadThem holds for all short paths of some
// letters: of a path that is clear, every application sees the same; what they see
// alike is matched alike, and what they tell apart is told apart.
func TestPathsAreMatchedAsApplicationsReadThem(t *testing.T) {
	letters := []string{"/", ".", "a", "%2e", "%61", "%C3", "%a9", "%2f", ",", "%2c", "[", "%5B", ";", "%25"}
	forms, views := map[string]string{}, map[string]string{}
	clearOnes := 0
	check := func(raw string) {
		form, clear := oracle.NormalisedPath(raw, api.Documented())
		if !clear {
			return
		}
		clearOnes++
		seen := slashed(readers.Of(raw)["nginx"], form)
		for who, view := range readers.Of(form) {
			if view = slashed(view, form); view != seen {
				t.Errorf("%q is matched as %q, which %s takes for %q, and nginx the path itself for %q", raw, form, who, view, seen)
			}
		}
		if before, known := forms[seen]; known && before != form {
			t.Errorf("%q is seen as %q, and matched as %q and as %q", raw, seen, form, before)
		}
		if before, known := views[form]; known && before != seen {
			t.Errorf("%q is matched as %q, and seen as %q and as %q", raw, form, seen, before)
		}
		forms[seen], views[form] = form, seen
		if again, clear := oracle.NormalisedPath(form, api.Documented()); !clear || again != form {
			t.Errorf("%q is matched as %q, and that as %q", raw, form, again)
		}
	}
	var all func(prefix string, left int)
	all = func(prefix string, left int) {
		check(prefix)
		for _, letter := range letters {
			if left > 0 && !t.Failed() {
				all(prefix+letter, left-1)
			}
		}
	}
	all("/", 4)
	if clearOnes == 0 || len(forms) == clearOnes {
		t.Errorf("%d paths are clear, and %d of them are seen as different ones: nothing is said to be the same", clearOnes, len(forms))
	}
}

// slashed is a view of a path with the slash at its end that readers leave out.
func slashed(view, path string) string {
	if strings.HasSuffix(path, "/") && !strings.HasSuffix(view, "/") {
		view += "/"
	}
	return view
}
