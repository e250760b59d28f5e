package live

import (
	"errors"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

func TestOnlyClientsAreMadeThatPodsCanBe(t *testing.T) {
	for text, want := range map[string]scenarios.ClientKind{
		"unmeshed": scenarios.Unmeshed, "tls-no-identity": scenarios.TLSNoIdentity, "shop/till": scenarios.Meshed,
		"unmeshed@10.1.2.3": "", "shop/till@10.1.2.3": "", "localhost": "", "self": "", "spiffe://a/b": "",
	} {
		client, err := explain.ParseClient(text, oracle.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		kind, namespace, account, err := kindOf(client)
		if kind != want || (err != nil) != (want == "") || err != nil && !errors.Is(err, ErrClient) {
			t.Errorf("%s: a pod of kind %q, %v; want %q", text, kind, err, want)
		}
		if kind == scenarios.Meshed && (namespace != "shop" || account != "till") {
			t.Errorf("%s: account %s of namespace %s", text, account, namespace)
		}
	}
}

func TestNothingIsAskedThatAnApplicationMayTakeForAChange(t *testing.T) {
	for text, want := range map[string]bool{
		"GET /a": true, "HEAD /a": true, "OPTIONS /a": true, "h2 GET /a": true, "POST /a": false, "DELETE /a": false, "h2 PUT /a": false,
		"grpc /any.Service/Call": true, "grpc /shop.Till/Open": false,
	} {
		request, err := explain.ParseRequest(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if harmless(request) != want {
			t.Errorf("%s is taken for harmless: %v", text, !want)
		}
	}
	if !harmless(oracle.Request{Protocol: oracle.TCP}) {
		t.Error("a connection is harmless")
	}
}
