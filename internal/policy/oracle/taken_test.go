package oracle_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

var protocols = []api.ProxyProtocol{api.ProtocolUnknown, api.ProtocolHTTP1, api.ProtocolHTTP2, api.ProtocolGRPC, api.ProtocolOpaque, api.ProtocolTLS}

func TestAConnectionThatWasTakenByThePolicyOfNowIsDecidedAsAnyOther(t *testing.T) {
	for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
		o := oracle.New(oracle.World{Settings: oracle.DefaultSettings()}, dialect)
		for _, protocol := range protocols {
			policy := oracle.Policy{Port: 8080, Protocol: protocol, Routes: []oracle.Route{{Label: oracle.Label{Kind: "default", Name: "default"}, Any: true}}}
			for _, way := range oracle.Ways() {
				for _, spoken := range oracle.Protocols() {
					client, request := oracle.Client{Way: way, Address: netip.MustParseAddr("10.0.0.8")}, oracle.Request{Protocol: spoken}
					want := o.Decide(policy, client, request)
					for _, got := range o.DecideOn(policy, policy, client, request) {
						if got.Outcome != want.Outcome || got.Course != want.Course || got.TLS != want.TLS {
							t.Errorf("%s: %s of a client of way %s on a port of protocol %s is %s as %s, and %s as %s where it was taken by the same", dialect, spoken, way, protocol, want.Outcome, want.Course, got.Outcome, got.Course)
						}
					}
				}
			}
		}
	}
}

func TestAConnectionKeepsTheCourseThatItHasTaken(t *testing.T) {
	o := oracle.New(oracle.World{Settings: oracle.DefaultSettings()}, api.Documented())
	for _, row := range []struct {
		taken, now api.ProxyProtocol
		way        oracle.Way
		want       []oracle.Course
	}{
		{api.ProtocolUnknown, api.ProtocolOpaque, oracle.MeshedDirect, []oracle.Course{oracle.Nowhere, oracle.AsTCP}},
		{api.ProtocolHTTP2, api.ProtocolTLS, oracle.Plain, []oracle.Course{oracle.Nowhere, oracle.AsTCP}},
		{api.ProtocolOpaque, api.ProtocolUnknown, oracle.MeshedDirect, []oracle.Course{oracle.AsTCP}},
		{api.ProtocolOpaque, api.ProtocolHTTP2, oracle.Plain, []oracle.Course{oracle.Refuse}},
		{api.ProtocolUnknown, api.ProtocolHTTP2, oracle.MeshedDirect, []oracle.Course{oracle.AsHTTP, oracle.AsHTTP}},
	} {
		var got []oracle.Course
		client := oracle.Client{Way: row.way, Identity: "a", Address: netip.MustParseAddr("10.0.0.8")}
		for _, v := range o.DecideOn(oracle.Policy{Port: 8080, Protocol: row.taken}, oracle.Policy{Port: 8080, Protocol: row.now}, client, oracle.Request{Protocol: oracle.HTTP2}) {
			got = append(got, v.Course)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("from %s to %s, a client of way %s: %v, want %v", row.taken, row.now, row.way, got, row.want)
		}
	}
}
