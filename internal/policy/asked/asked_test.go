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

func TestOnlyARequestThatWasLetThroughIsAnsweredByTheApplication(t *testing.T) {
	for _, row := range []struct {
		outcome          oracle.Outcome
		kind             clients.Kind
		can, fits, knows bool
	}{
		{oracle.Delivered, clients.Unavailable, true, false, true},
		{oracle.Delivered, clients.NotFound, true, false, true},
		{oracle.Delivered, clients.Forbidden, false, false, false},
		{oracle.Delivered, clients.Allowed, true, true, true},
		{oracle.Unpoliced, clients.Unavailable, true, false, true},
		{oracle.Forbidden, clients.Unavailable, false, false, false},
		{oracle.Forbidden, clients.Forbidden, true, true, true},
		{oracle.NotFound, clients.Allowed, false, false, false},
	} {
		v := oracle.Verdict{Outcome: row.outcome}
		can := CanBe(row.kind, v, oracle.Client{}, oracle.HTTP1)
		fits, knows := Fits(row.kind, v, oracle.Client{}, oracle.HTTP1, false), Fits(row.kind, v, oracle.Client{}, oracle.HTTP1, true)
		if can != row.can || fits != row.fits || knows != row.knows {
			t.Errorf("%s seen as %s: can be %v, fits %v, and %v when the application got it", row.outcome, row.kind, can, fits, knows)
		}
	}
}
