package generate

import (
	"os"
	"sync"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// many scenarios of one seed, played on paper.
func many(t *testing.T) *Coverage {
	t.Helper()
	const scenarios, workers = 600, 4
	var group sync.WaitGroup
	var mu sync.Mutex
	var c Coverage
	for first := range workers {
		group.Go(func() {
			for index := first; index < scenarios; index += workers {
				one, err := New(20261122, index)
				if err == nil {
					mu.Lock()
					err = c.Add(one)
					mu.Unlock()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	return &c
}

func TestManyScenariosReachTheEdges(t *testing.T) {
	c := many(t)
	if testing.Verbose() {
		c.Write(os.Stdout)
	}
	for _, transition := range Transitions() {
		if c.Transitions[transition] < 12 {
			t.Errorf("%d times somebody would %s", c.Transitions[transition], transition)
		}
	}
	for _, law := range Laws() {
		if c.Laws[law] < 3 {
			t.Errorf("%d twins by %s", c.Laws[law], law)
		}
	}
	// What the edges are about, by the rules that stand in the chains of reasons.
	for rule, edge := range map[string]string{"X-04": "Servers that overlap", "X-45": "an authentication that is missing", "H-19": "networks that hold somebody else",
		"X-61": "authorizations that admit nobody", "X-53": "routes of one's own", "S-06": "routes that conflict", "D-18": "an identity that a port requires",
		"C-08": "selectors without values", "X-54": "routes of the wrong kind", "T-33": "meshed clients at opaque ports", "D-19": "ports that are skipped"} {
		if held := c.Rules[rule]; held.Yes+held.No < 30 {
			t.Errorf("%d calls are about %s (%s)", held.Yes+held.No, edge, rule)
		}
	}
	if c.Turned < c.Edits/2 || c.Flowing < c.Scenarios/10 {
		t.Errorf("%d edits turned %d calls; %d of %d scenarios have traffic", c.Edits, c.Turned, c.Flowing, c.Scenarios)
	}
	for _, outcome := range []oracle.Outcome{oracle.Delivered, oracle.Forbidden, oracle.PermissionDenied, oracle.NotFound, oracle.GRPCNotFound, oracle.Closed, oracle.HandshakeFailed, oracle.ProtocolError} {
		if c.Outcomes[outcome] < 30 {
			t.Errorf("%d calls end in %s", c.Outcomes[outcome], outcome)
		}
	}
}
