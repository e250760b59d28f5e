package policy

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// agreed are the lines of a list that the judge and the proxy, which share no code,
// are each held against.
func agreed(t *testing.T, name string) (cases [][2]string) {
	t.Helper()
	text, err := os.ReadFile("../../../policy/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if sent, meant, ok := strings.Cut(line, " "); ok && sent != "#" {
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
		got := "400"
		if normal, ok := NormalPath([]byte(c[0]), nil); ok {
			judged, _ := matchForm(normal, nil)
			got = string(judged)
		}
		if got != c[1] {
			t.Errorf("%s is matched as %s, want %s", c[0], got, c[1])
		}
	}
}

func TestQueriesSayWhatWasAgreed(t *testing.T) {
	for _, c := range agreed(t, "queries.txt") {
		got := "none"
		if value, _, ok := parameter([]byte(c[0]), "q", nil); ok {
			got = strconv.Quote(string(value))
		}
		if got != c[1] {
			t.Errorf("?%s says of q %s, want %s", c[0], got, c[1])
		}
	}
}
