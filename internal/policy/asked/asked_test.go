package asked

import (
	"net/netip"
	"testing"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

func TestEveryKindOfClientComesToAPortInSomeWay(t *testing.T) {
	for _, kind := range scenarios.ClientKind("").Values() {
		if _, err := Client(scenarios.Client{Kind: scenarios.ClientKind(kind)}, netip.Addr{}, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestEveryProtocolOfTheLanguageIsOneToAProxy(t *testing.T) {
	for _, protocol := range scenarios.Protocol("").Values() {
		if _, err := Request(&scenarios.Request{Protocol: scenarios.Protocol(protocol)}, "app:80"); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyThoseWithACertificateOfTheMeshHaveAnIdentity(t *testing.T) {
	for _, kind := range scenarios.ClientKind("").Values() {
		c, err := Client(scenarios.Client{Kind: scenarios.ClientKind(kind)}, netip.Addr{}, "alice")
		if err != nil {
			t.Fatal(err)
		}
		if has := c.Identity != ""; has != (c.Way == oracle.Meshed || c.Way == oracle.MeshedDirect) {
			t.Errorf("a client of kind %s has identity %q", kind, c.Identity)
		}
	}
}

func TestEveryOutcomeIsSeenAsSomething(t *testing.T) {
	for _, outcome := range oracle.Outcomes() {
		if len(Kinds(oracle.Verdict{Outcome: outcome}, oracle.Client{}, oracle.HTTP1)) == 0 {
			t.Errorf("%s is seen as nothing", outcome)
		}
	}
}

func TestAnApplicationThatDoesNotAnswerWasReachedAllTheSame(t *testing.T) {
	for _, row := range []struct {
		outcome oracle.Outcome
		fits    bool
	}{{oracle.Delivered, true}, {oracle.Unpoliced, true}, {oracle.Forbidden, false}, {oracle.NotFound, false}} {
		if got := Fits(clients.Unavailable, oracle.Verdict{Outcome: row.outcome}, oracle.Client{}, oracle.HTTP1); got != row.fits {
			t.Errorf("%s and a 502: %v", row.outcome, got)
		}
	}
}
