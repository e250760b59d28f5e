package values

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestValuesSurviveWritingAndReading(t *testing.T) {
	for _, policy := range api.PolicyNames() {
		want := Default()
		want.DefaultInboundPolicy = policy
		want.ClusterNetworks = []string{"10.0.0.0/8"}
		want.ProbeNetworks = []string{}
		text, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -written +read\n%s", policy, diff)
		}
	}
}

func TestAnEmptyConfigurationIsTheDefault(t *testing.T) {
	got, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("-default +read\n%s", diff)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for text, complaint := range map[string]string{
		"defaultInboundPolicy: allow":        `"allow" is none of all-unauthenticated, all-authenticated,`,
		"defaultInboundPolicy: Deny":         `"Deny" is none of`,
		"clusterNetworks: [10.0.0.1]":        `"10.0.0.1" is not a range`,
		"probeNetworks: [nowhere]":           `probe network "nowhere"`,
		"dialect: german":                    `dialect "german"`,
		"proxyExemption: gid":                `"gid" is none of "auto", "uid" and "mark"`,
		"proxyImage: ''":                     `proxy image ""`,
		"defaultInboundPolicies: deny":       `unknown field "defaultInboundPolicies"`,
		"identityTrustDomain: cluster local": `identity trust domain "cluster local"`,
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: got %v, want …%s…", text, err, complaint)
		}
	}
}

func TestIdentityIsTheDocumentsOwn(t *testing.T) {
	if got, want := Default().Identity("web", "emojivoto"), "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
