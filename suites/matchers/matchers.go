// Package matchers holds Gomega matchers over what a client saw of a call.
//
// A clients.Outcome, or a pointer to one, goes in. The matchers go by the
// outcome's kind and numbers and never by the text of a message. They do not
// look for a second witness of a denial on TCP: the engine has done so before
// an outcome gets here.
package matchers

import (
	"fmt"
	"slices"

	"github.com/onsi/gomega/format"
	"github.com/onsi/gomega/gcustom"
	"github.com/onsi/gomega/types"

	"github.com/meshproof/meshproof/clients"
)

// BeAllowed matches when the application answered.
func BeAllowed() types.GomegaMatcher { return BeOutcome(clients.Allowed) }

// BeDenied matches every form in which a mesh refuses a call.
func BeDenied() types.GomegaMatcher {
	return matcher("be denied", func(o clients.Outcome) bool { return o.Kind.Denial() })
}

// BeForbidden matches HTTP status 403.
func BeForbidden() types.GomegaMatcher { return BeOutcome(clients.Forbidden) }

// BePermissionDenied matches gRPC status 7.
func BePermissionDenied() types.GomegaMatcher { return BeOutcome(clients.PermissionDenied) }

// BeOutcome matches when the outcome is of one of the kinds.
func BeOutcome(kinds ...clients.Kind) types.GomegaMatcher {
	return matcher(fmt.Sprintf("be %v", kinds), func(o clients.Outcome) bool { return slices.Contains(kinds, o.Kind) })
}

// HaveHTTPStatus matches an answer with that status.
func HaveHTTPStatus(status int) types.GomegaMatcher {
	return matcher(fmt.Sprintf("have HTTP status %d", status), func(o clients.Outcome) bool { return o.HTTPStatus == status })
}

// HaveGRPCStatus matches an answer with that status code.
func HaveGRPCStatus(code int) types.GomegaMatcher {
	return matcher(fmt.Sprintf("have gRPC status %d", code), func(o clients.Outcome) bool { return o.GRPCStatus == code })
}

func matcher(want string, holds func(clients.Outcome) bool) types.GomegaMatcher {
	return gcustom.MakeMatcher(func(actual any) (bool, error) {
		switch outcome := actual.(type) {
		case clients.Outcome:
			return holds(outcome), nil
		case *clients.Outcome:
			if outcome == nil {
				return false, fmt.Errorf("there is no outcome: the call was not made")
			}
			return holds(*outcome), nil
		}
		return false, fmt.Errorf("expected a clients.Outcome, got\n%s", format.Object(actual, 1))
	}).WithTemplate("Expected\n{{.FormattedActual}}\n{{.To}} {{.Data}}", want)
}
