package specs

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/suites/matchers"
)

// A test of the glue: the kinds that a passed claim may have are those that the
// matcher takes.
func TestDeniedIsWhatTheMatcherTakes(t *testing.T) {
	g := NewWithT(t)
	for _, protocol := range scenarios.Protocol("").Values() {
		for _, kind := range (scenarios.Expect{scenarios.Denied}).Kinds(scenarios.Protocol(protocol)) {
			g.Expect(clients.Outcome{Kind: kind}).To(matchers.BeDenied())
		}
	}
}
