package scenarios

import (
	"maps"
	"testing"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/workloads/echo"
	"github.com/meshproof/meshproof/workloads/probed"
)

// The tables are written out so that the language stands alone; here they are
// held against the programs.

func TestPortsAreThoseOfThePrograms(t *testing.T) {
	want := map[string]Port{echo.NameHTTP: same(echo.PortHTTP), echo.NameGRPC: same(echo.PortGRPC), echo.NameTLS: same(echo.PortTLS),
		echo.NameTCP: same(echo.PortTCP), echo.NameServerFirst: same(echo.PortServerFirst)}
	if !maps.Equal(echoPorts, want) {
		t.Errorf("echo: have %v, want %v", echoPorts, want)
	}
	want = map[string]Port{}
	for _, probe := range probed.Probes() {
		if probe.Port != 0 {
			want[probe.Name] = same(probe.Port)
		}
	}
	if !maps.Equal(probedPorts, want) {
		t.Errorf("probed: have %v, want %v", probedPorts, want)
	}
}

func TestProtocolsAreThoseOfTheClients(t *testing.T) {
	var known []string
	for _, protocol := range clients.Protocols() {
		known = append(known, string(protocol))
	}
	for _, protocol := range Protocol("").Values() {
		if !contains(known, protocol) {
			t.Errorf("no client speaks %s", protocol)
		}
	}
	for protocol := range naturalPorts {
		if !contains(Protocol("").Values(), string(protocol)) {
			t.Errorf("%s has a port and is no protocol", protocol)
		}
	}
}
