package scenarios

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// row is one cell of a table of the library: the place in the table, the client
// and what it speaks.
type row struct {
	place    string
	client   string
	protocol Protocol
}

// rowsOf are the cells of a scenario's matrices; place says where in the table a
// claim stands.
func rowsOf(t *testing.T, scenario string, place func(*PlannedClaim) string) map[row]int {
	t.Helper()
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	found := map[row]int{}
	for _, claim := range NewPlan(set, nil).Claims() {
		if claim.Scenario.Metadata.Name == scenario && claim.Claim.Matrix != nil {
			found[row{place(claim), claim.Call.Client, claim.Call.Protocol}]++
		}
	}
	if len(found) == 0 {
		t.Fatalf("scenario %s has no rows", scenario)
	}
	return found
}

// demand wants exactly the rows of the product, once each.
func demand(t *testing.T, found map[row]int, want []row) {
	t.Helper()
	for _, one := range want {
		if found[one] != 1 {
			t.Errorf("%+v stands in the table %d times", one, found[one])
		}
		delete(found, one)
	}
	for one := range found {
		t.Errorf("%+v stands in the table and in no product", one)
	}
}

// speaks are the protocols that a client speaks in a table: TLS for the
// application needs one that answers TLS.
func speaks(kind ClientKind, all []Protocol) []Protocol {
	if kind != ForeignTLS {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(p Protocol) bool { return p != HTTP1 && p != HTTP2 })
}

func TestTheTableOfAccessPoliciesIsTheWholeProduct(t *testing.T) {
	found := rowsOf(t, "access-policy", func(c *PlannedClaim) string { return c.Step.Name })
	var want []row
	for _, policy := range api.PolicyNames() {
		clients := append(ClientKind("").Values(), "granted", "meshed-outside", "unmeshed-outside", "tls-no-identity-outside")
		for _, client := range clients {
			for _, protocol := range speaks(ClientKind(client), []Protocol{HTTP1, GRPC, TCP}) {
				want = append(want, row{string(policy), client, protocol})
			}
		}
	}
	demand(t, found, want)
}

func TestTheTableOfDefaultPoliciesIsTheWholeProduct(t *testing.T) {
	found := rowsOf(t, "default-policies", func(c *PlannedClaim) string {
		component, _, _ := strings.Cut(c.Call.Target, ":")
		return component
	})
	var want []row
	for _, policy := range api.PolicyNames() {
		for _, level := range []string{"namespace", "workload", "pod"} {
			for _, client := range append(ClientKind("").Values(), "meshed-outside", "unmeshed-outside", "tls-no-identity-outside") {
				for _, protocol := range speaks(ClientKind(client), []Protocol{HTTP1, GRPC, TCP}) {
					want = append(want, row{level + "-" + string(policy), client, protocol})
				}
			}
		}
	}
	demand(t, found, want)
}

func TestTheClustersDefaultHasEveryPolicy(t *testing.T) {
	found := rowsOf(t, "cluster-default", func(c *PlannedClaim) string { return c.Call.Target })
	for _, policy := range api.PolicyNames() {
		for _, client := range []string{"alice", "alice-outside", "unmeshed", "unmeshed-outside", "tls", "foreign"} {
			for _, protocol := range []Protocol{HTTP1, HTTP2, GRPC, TCP} {
				if one := (row{"created-under-" + string(policy), client, protocol}); found[one] == 0 {
					t.Errorf("%+v is not in the table", one)
				}
			}
		}
	}
}

func TestTheTableOfProtocolsIsTheWholeProduct(t *testing.T) {
	found := rowsOf(t, "protocol-mismatch", func(c *PlannedClaim) string {
		component, _, _ := strings.Cut(c.Call.Target, ":")
		return c.Step.Name + " on " + component
	})
	var want []row
	for _, protocol := range api.ProxyProtocols() {
		for _, pod := range []string{"plain", "opaque"} {
			for _, client := range ClientKind("").Values() {
				kind := ClientKind(client)
				if protocol == api.ProtocolOpaque && kind != Meshed && kind != Unmeshed && kind != ForeignTLS {
					continue // their TLS goes to an application that cannot answer it
				}
				for _, spoken := range speaks(kind, []Protocol{HTTP1, HTTP2, GRPC, TCP}) {
					want = append(want, row{string(protocol) + " on " + pod, client, spoken})
				}
			}
		}
	}
	demand(t, found, want)
}

// Every rule of admission that is in scope has an object that is refused and
// one like it that is not.
func TestTheTableOfAdmissionHasBothSidesOfEveryRule(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	sides := map[string]map[Admission]bool{}
	for _, claim := range NewPlan(set, nil).Claims() {
		if claim.Claim.Admission == nil {
			continue
		}
		for _, id := range claim.Shows {
			if sides[id] == nil {
				sides[id] = map[Admission]bool{}
			}
			sides[id][claim.Claim.Admission.Expect] = true
		}
	}
	for n := 5; n <= 31; n++ {
		id := fmt.Sprintf("A-%02d", n)
		for _, side := range []Admission{AdmissionRefused, AdmissionAccepted} {
			onlyAccepted := id == "A-07" || id == "A-26"
			if !sides[id][side] && id != "A-30" && !(onlyAccepted && side == AdmissionRefused) {
				t.Errorf("%s: no object is %s", id, side)
			}
		}
	}
}

func TestNoTableIsMoreThanAThirdOfAllClaims(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	claims := NewPlan(set, nil).Claims()
	each := map[string]int{}
	for _, claim := range claims {
		each[claim.Scenario.Metadata.Name]++
	}
	for name, count := range each {
		if count*3 > len(claims) {
			t.Errorf("%s has %d of %d claims", name, count, len(claims))
		}
	}
}

func TestPlacesInTablesAreThoseOfTheTemplate(t *testing.T) {
	text, lines, err := writeOut("x", []byte("a:\n  {{- range list 1 2}}\n  - {{.}}\n  {{- end}}\nb: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "a:\n  - 1\n  - 2\nb: 1\n"; string(text) != want {
		t.Errorf("written out as %q, want %q", text, want)
	}
	if want := []int{1, 3, 3, 5}; !slices.Equal(lines, want) {
		t.Errorf("the lines are said to be %v, want %v", lines, want)
	}
}

func TestAnActionThatSpansLinesIsRefused(t *testing.T) {
	if _, _, err := writeOut("x", []byte("a: {{list\n1}}\n")); err == nil {
		t.Error("it was written out")
	}
}

func TestAValueThatATableSaysNothingAboutIsNoticed(t *testing.T) {
	_, _, err := writeOut("x", []byte(`{{$d := dict "deny" 1}}a: {{get $d "audit"}}`))
	if err == nil || !strings.Contains(err.Error(), "audit") {
		t.Errorf("the error is %v, want one about audit", err)
	}
}

func TestATableOfOrdersHasEachOrderOnce(t *testing.T) {
	orders := permutations("a", "b", "c")
	seen := map[string]bool{}
	for _, order := range orders {
		seen[fmt.Sprint(order...)] = true
	}
	if len(orders) != 6 || len(seen) != 6 {
		t.Errorf("the orders of three are %v", orders)
	}
	set, err := Library(Transitions)
	if err != nil {
		t.Fatal(err)
	}
	made, gone := map[string]bool{}, map[string]bool{}
	for _, scenario := range set.Scenarios {
		if path.Base(scenario.File) != "order-meshtls.yaml.tmpl" {
			continue
		}
		var verbs [2]string
		for i, step := range scenario.Spec.Steps {
			verbs[i/3] += step.Name + " "
		}
		made[verbs[0]], gone[verbs[1]] = true, true
	}
	if len(made) != 6 || len(gone) != 6 {
		t.Errorf("%d orders of making and %d of deleting, want six each", len(made), len(gone))
	}
}
