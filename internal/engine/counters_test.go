package engine

import (
	"fmt"
	"strings"
	"testing"
)

func TestTheLinesOfSomeFamiliesSayOfThemWhatThePageSays(t *testing.T) {
	var page strings.Builder
	for i, name := range append([]string{"inbound_http_authz_allow_total_of_another", "go_goroutines"}, decisionCounters...) {
		fmt.Fprintf(&page, "# HELP %s inbound_http_authz_allow_total and more\n# TYPE %s counter\n", name, name)
		for port := range 3 {
			fmt.Fprintf(&page, "%s{srv_port=\"%d\",path=\"a b{\"} %d\n", name, 8080+port, i*10+port)
		}
	}
	page.WriteString("# TYPE without_labels counter\nwithout_labels 7\n")
	lines := linesOf([]byte(page.String()), append([]string{"without_labels"}, decisionCounters...))
	if strings.Contains(string(lines), "goroutines") || strings.Contains(string(lines), "of_another") {
		t.Errorf("other families are kept:\n%s", lines)
	}
	if !strings.HasSuffix(string(lines), "without_labels 7\n") {
		t.Errorf("a series without labels is lost:\n%s", lines)
	}
	before := &witnessLog{meshed: true, counted: [2][]byte{[]byte(page.String()), []byte(page.String())}}
	pages, _, ok := readCounters([]*witnessLog{before})
	if !ok {
		t.Fatal("the page cannot be read")
	}
	for i, name := range decisionCounters {
		if got, want := pages.sum(rise{counter: name, labels: map[string]string{"srv_port": "8081"}}), float64((i+2)*10+1); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
