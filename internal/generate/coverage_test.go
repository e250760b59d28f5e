package generate

import (
	"os"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// thousand scenarios of one seed, played on paper.
func thousand(t *testing.T) *Coverage {
	t.Helper()
	var c Coverage
	for index := range 1000 {
		one, err := New(20261122, index)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Add(one); err != nil {
			t.Fatal(err)
		}
	}
	return &c
}

func TestAThousandScenariosReachTheEdges(t *testing.T) {
	c := thousand(t)
	if testing.Verbose() {
		c.Write(os.Stdout)
	}
	for _, transition := range Transitions() {
		if c.Transitions[transition] < 20 {
			t.Errorf("%d times somebody would %s", c.Transitions[transition], transition)
		}
	}
	for _, outcome := range []oracle.Outcome{oracle.Delivered, oracle.Forbidden, oracle.PermissionDenied, oracle.NotFound, oracle.GRPCNotFound, oracle.Closed, oracle.HandshakeFailed, oracle.ProtocolError} {
		if c.Outcomes[outcome] < 50 {
			t.Errorf("%d calls end in %s", c.Outcomes[outcome], outcome)
		}
	}
}
