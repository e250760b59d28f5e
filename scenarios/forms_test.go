package scenarios

import (
	"strings"
	"testing"
)

// claimed is the example with the first claim's form replaced, and without its
// time where that is none of the form's.
func claimed(form string) string {
	if strings.HasPrefix(form, "rate:") {
		return strings.Replace(strings.Replace(valid, "          within: 2s\n", "          # judged once\n", 1),
			`call: {client: alice, target: "app:http", protocol: http1, expect: allowed}`, form, 1)
	}
	return strings.Replace(valid, `call: {client: alice, target: "app:http", protocol: http1, expect: allowed}`, form, 1)
}

func TestEveryFormOfClaimIsTakenAsItIsWritten(t *testing.T) {
	for _, form := range []string{
		`metric: {workload: app, name: inbound_http_authz_allow_total, labels: {client_id: "alice.${clients}"}, without: [authz_name], is: 3}`,
		`metric: {controlPlane: policy, name: policy_watchers, since: start, is: some}`,
		`metric: {controlPlane: policy, name: go_goroutines, is: at most 50}`,
		`log: {workload: app, message: Request denied, fields: {client.id: "alice[.]${clients}[.].*"}, is: none}`,
		`log: {controlPlane: identity, message: certified, is: 0}`,
		`status: {kind: HTTPRoute, name: r, parent: http, condition: Accepted, is: "True", reason: Accepted}`,
		`status: {apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: r, namespace: "${ns.other}", parent: Gateway/g, controller: example.com/other, condition: Accepted, is: absent, for: 2s}`,
		`rate: {calls: [{client: alice, target: app, protocol: http1, rate: 20, limited: {atLeast: 40, atMost: 60}}, {client: bob, target: "app:http", protocol: http2, rate: 0.5, expect: denied}], for: 2s, limited: {atMost: 0}}`,
		`status: {kind: HTTPLocalRateLimitPolicy, name: r, condition: Accepted, is: "False"}`,
	} {
		if _, err := Parse("s.yaml", []byte(claimed(form)), noManifest); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestMistakesInAFormOfClaimAreToldWithTheirRemedy(t *testing.T) {
	for _, test := range []struct{ name, form, want string }{
		{"number below none", `metric: {workload: app, name: x, is: -1}`, `s.yaml:21:48: expected none, some, a whole number or "at most" one, found the number -1`},
		{"another word", `metric: {workload: app, name: x, is: many}`, `s.yaml:21:48: expected none, some, a whole number or "at most" one, found the string "many"`},
		{"half of one", `log: {workload: app, message: x, is: 0.5}`, `s.yaml:21:48: expected none, some, a whole number or "at most" one, found the number 0.5`},
		{"nobody's metric", `metric: {name: x, is: none}`, `s.yaml:21:19: give workload or controlPlane, one of the two`},
		{"two tellers", `log: {workload: app, controlPlane: policy, message: x, is: none}`, `s.yaml:21:16: give workload or controlPlane, one of the two`},
		{"part that does not exist", `log: {controlPlane: polcy, message: x, is: none}`, `s.yaml:21:31: "polcy" is not a control plane part: did you mean "policy"?`},
		{"label that is there and is not", `metric: {workload: app, name: x, labels: {a: b}, without: [a], is: none}`, `s.yaml:21:19: a series cannot have the label "a" and be without it`},
		{"named value in a label", `metric: {workload: app, name: x, labels: {a: "${cleints}"}, is: none}`, `s.yaml:21:19: ${cleints} is not a named value: did you mean "clients"?`},
		{"expression that does not compile", `log: {workload: app, message: x, fields: {client.ip: "("}, is: none}`, `s.yaml:21:16: field client.ip: "(" is not a regular expression`},
		{"condition without quotes", `status: {kind: HTTPRoute, name: r, parent: http, condition: Accepted, is: True}`, `s.yaml:21:85: expected a condition's status, "True", "False" or "Unknown" in quotes, or absent, found True (true or false)`},
		{"controller without entry", `status: {kind: HTTPLocalRateLimitPolicy, name: r, controller: x, condition: Accepted, is: absent}`, `s.yaml:21:19: only the entries of parents tell who has written them: give parent, or remove controller`},
		{"reason of nothing", `status: {kind: HTTPRoute, name: r, parent: http, condition: Accepted, is: absent, reason: Accepted}`, `s.yaml:21:19: a condition that is absent has no reason: remove reason`},
		{"rate without a call", `rate: {calls: []}`, `s.yaml:21:17: nobody calls: give calls`},
		{"rate of nothing", `rate: {calls: [{client: alice, target: app, protocol: http1, rate: 0}]}`, `s.yaml:21:26: rate 0: want more than 0 calls per second`},
		{"rate below one call", `rate: {calls: [{client: alice, target: app, protocol: http1, rate: 0.1}]}`, `s.yaml:21:26: no call is made in 3s at 0.1 per second: call longer or faster`},
		{"too many calls", `rate: {for: 10s, calls: [{client: alice, target: app, protocol: http1, rate: 300}]}`, `s.yaml:21:17: 3000 calls are too many: want at most 2000`},
		{"too long", `rate: {for: 1m, calls: [{client: alice, target: app, protocol: http1, rate: 1}]}`, `s.yaml:21:17: for 1m0s is too long: want at most 10s`},
		{"rate of connections", `rate: {calls: [{client: alice, target: app, protocol: tcp, rate: 1}]}`, `s.yaml:21:26: tcp has no requests that could be limited: want http1, http2 or grpc`},
		{"share that is none", `rate: {limited: {atLeast: 60, atMost: 40}, calls: [{client: alice, target: app, protocol: http1, rate: 1}]}`, `s.yaml:21:27: 60 to 40 percent is no share`},
		{"share without bounds", `rate: {limited: {}, calls: [{client: alice, target: app, protocol: http1, rate: 1}]}`, `s.yaml:21:27: nothing is said about the share: give atLeast, atMost or both`},
		{"somebody unknown who calls", `rate: {calls: [{client: alcie, target: app, protocol: http1, rate: 1}]}`, `s.yaml:21:26: no client is called "alcie": did you mean "alice"?`},
		{"nobody who says what is expected", "noOracle: it is new\n          call: {client: alice, target: app, protocol: http1}", `s.yaml:18:11: neither the claim nor the oracle says what is expected: give expect (of a rate, limited), or remove noOracle`},
		{"time for what is judged once", "command: {workload: app, run: [a], exit: zero}", `s.yaml:18:11: a claim of this form is judged once: remove within`},
		{"oracle that nobody asks", "noOracle: it is new\n          metric: {workload: app, name: x, is: none}", `s.yaml:18:11: the oracle is not asked about a claim of this form: remove noOracle`},
	} {
		_, err := Parse("s.yaml", []byte(claimed(test.form)), noManifest)
		if err == nil || !IsInput(err) || !strings.Contains("\n"+err.Error(), "\n"+test.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", test.name, err, test.want)
		}
	}
}

func TestOnlyAConnectionThatCarriesRequestsHasANextOne(t *testing.T) {
	for _, test := range []struct{ protocol, claim, want string }{
		{"http1", "state: open, next: denied", ""}, {"http2", "state: open, next: [allowed, not-found]", ""}, {"grpc", "state: open, next: denied", ""},
		{"grpc-stream", "state: open", ""}, {"tcp", "state: cut", ""},
		{"tcp", "state: open, next: denied", `s.yaml:21:17: a connection of tcp carries no next request: remove next, or hold one of [http1 http2 grpc]`},
		{"grpc-stream", "state: open, next: denied", `s.yaml:21:17: a connection of grpc-stream carries no next request`},
		{"http1", "state: cut, next: denied", `s.yaml:21:17: a connection that is cut carries no next request: remove next`},
	} {
		text := strings.Replace(claimed("held: {connection: long, "+test.claim+"}"),
			`start: {name: flow, client: alice, target: "app:http", protocol: http1, rate: 5}`, `hold: {name: long, client: alice, target: "app", protocol: `+test.protocol+`}`, 1)
		_, err := Parse("s.yaml", []byte(text), noManifest)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s, %s:\ngot  %v\nwant %s", test.protocol, test.claim, err, test.want)
		}
	}
}

func TestACountFitsItsNumberAlone(t *testing.T) {
	for _, test := range []struct {
		count  Count
		number float64
		want   bool
	}{
		{"none", 0, true}, {"none", 1, false}, {"some", 0, false}, {"some", 7, true},
		{"0", 0, true}, {"3", 3, true}, {"3", 2, false}, {"3", 4, false},
		{"at most 3", 0, true}, {"at most 3", 3, true}, {"at most 3", 4, false},
	} {
		if got := test.count.Fits(test.number); got != test.want {
			t.Errorf("%v as %s: got %v", test.number, test.count, got)
		}
	}
}
