package explain

import (
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

func TestWhatProvesNothingIsNeitherAnAgreementNorADifference(t *testing.T) {
	for text, row := range map[string]struct {
		live    *Observed
		differs int
	}{
		"yes (not called)":            {nil, 0},
		"yes":                         {&Observed{Outcome: "allowed (HTTP 200)", Agrees: true}, 0},
		"yes != forbidden (HTTP 403)": {&Observed{Outcome: "forbidden (HTTP 403)"}, 1},
		"yes (unsure: closed)":        {&Observed{Outcome: "closed", Unsure: true}, 0},
	} {
		cell := Cell{Allowed: true, Outcome: oracle.Delivered, Live: row.live}
		if got := cell.word(true); got != text {
			t.Errorf("the cell says %q, want %q", got, text)
		}
		m := Matrix{Live: true, Rows: []Row{{Cells: []Cell{cell}}}}
		if got := m.Differences(); got != row.differs {
			t.Errorf("%s: %d differences, want %d", text, got, row.differs)
		}
	}
}
