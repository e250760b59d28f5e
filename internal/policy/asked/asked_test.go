package asked

import (
	"net/netip"
	"slices"
	"strings"
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

func TestTLSThatTheProxyDoesNotEndLooksLikeADenialOnlyWhereItIsOne(t *testing.T) {
	opaque := oracle.Verdict{Course: oracle.AsTCP, TLS: "no_identity"}
	with := func(outcome oracle.Outcome) oracle.Verdict {
		v := opaque
		v.Outcome = outcome
		return v
	}
	ended := oracle.Verdict{Outcome: oracle.Delivered, Course: oracle.AsTCP, TLS: "true"}
	for _, way := range []oracle.Way{oracle.MeshedDirect, oracle.TLSNoIdentity, oracle.ForeignRoot} {
		client := oracle.Client{Way: way}
		for _, row := range []struct {
			name    string
			verdict oracle.Verdict
			kinds   string // that fit whatever is known
			reached string // and those that fit where the proxy has let it through
		}{
			{"let through to an application of something else", with(oracle.Delivered), "protocol-error timeout tls-failure", "closed protocol-error reset timeout tls-failure"},
			{"denied", with(oracle.Closed), "closed refused reset", "closed refused reset"},
			{"let through after the proxy had ended it", ended, "allowed", "allowed bad-request not-found protocol-error redirected unavailable"},
		} {
			for _, reached := range []bool{false, true} {
				var fits []string
				for _, kind := range clients.Kinds() {
					if Fits(kind, row.verdict, client, oracle.HTTP2, reached) {
						fits = append(fits, string(kind))
					}
				}
				slices.Sort(fits)
				want := row.kinds
				if reached {
					want = row.reached
				}
				if got := strings.Join(fits, " "); got != want {
					t.Errorf("a client of way %s, %s (known: %v), sees %s; want %s", way, row.name, reached, got, want)
				}
			}
		}
		if CanBe(clients.Closed, with(oracle.Delivered), client, oracle.HTTP2) || CanBe(clients.Allowed, with(oracle.Delivered), client, oracle.HTTP2) {
			t.Errorf("a denial, or an answer, can be expected for a client of way %s whose TLS nobody ends", way)
		}
	}
	// Whose TLS is meant for the application is heard by it (T-13), and plaintext is.
	for _, way := range []oracle.Way{oracle.Plain, oracle.Meshed, oracle.ForeignTLS} {
		if kinds := Kinds(with(oracle.Delivered), oracle.Client{Way: way}, oracle.HTTP2); !slices.Equal(kinds, []clients.Kind{clients.Allowed}) {
			t.Errorf("a client of way %s sees %v", way, kinds)
		}
	}
}
