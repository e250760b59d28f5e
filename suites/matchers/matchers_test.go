package matchers

import (
	"testing"

	"github.com/onsi/gomega/types"

	"github.com/meshproof/meshproof/clients"
)

func TestMatchersGoByTheKind(t *testing.T) {
	for _, kind := range clients.Kinds() {
		outcome := clients.Outcome{Kind: kind, HTTPStatus: 403, GRPCStatus: 7, Message: "PermissionDenied 403"}
		for _, test := range []struct {
			name    string
			matcher types.GomegaMatcher
			want    bool
		}{
			{"BeAllowed", BeAllowed(), kind == clients.Allowed},
			{"BeDenied", BeDenied(), kind.Denial()},
			{"BeForbidden", BeForbidden(), kind == clients.Forbidden},
			{"BePermissionDenied", BePermissionDenied(), kind == clients.PermissionDenied},
			{"BeOutcome", BeOutcome(clients.Reset, clients.Closed), kind == clients.Reset || kind == clients.Closed},
			{"HaveHTTPStatus", HaveHTTPStatus(403), true},
			{"HaveGRPCStatus", HaveGRPCStatus(8), false},
		} {
			if got, err := test.matcher.Match(outcome); err != nil || got != test.want {
				t.Errorf("%s on %s: got %v, %v, want %v", test.name, kind, got, err, test.want)
			}
		}
	}
}

func TestWhatIsNoOutcomeIsAnError(t *testing.T) {
	for _, actual := range []any{"allowed", nil, (*clients.Outcome)(nil)} {
		if _, err := BeAllowed().Match(actual); err == nil {
			t.Errorf("%v is taken for an outcome", actual)
		}
	}
}
