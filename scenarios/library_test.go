package scenarios

import (
	"bytes"
	"testing"

	"github.com/meshproof/meshproof/workloads/emojivoto"
)

func TestEveryStatementOfTheDocumentsHasAClaim(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	shown := NewPlan(set, nil).Shown()
	for n := 1; n <= Statements; n++ {
		if shown[Statement(n)] == 0 {
			t.Errorf("%s is shown by no claim", Statement(n))
		}
	}
	judged := NewPlan(set, func(c *PlannedClaim) bool { return c.Claim.Skip == "" }).Shown()
	for n := 1; n <= Statements; n++ {
		if judged[Statement(n)] == 0 && Statement(n) != "DOC-42" {
			t.Errorf("every claim that shows %s is skipped", Statement(n))
		}
	}
}

// wantClaims is how many claims the core profile has at least.
const wantClaims = 60

func TestTheCoreProfileIsLargeEnough(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	core := 0
	for _, claim := range NewPlan(set, nil).Claims() {
		if claim.Feature.Profile() == Core {
			core++
		}
	}
	if core < wantClaims {
		t.Errorf("the core profile has %d claims, want %d", core, wantClaims)
	}
}

func TestTheSamplePolicyIsTheApplicationsOwn(t *testing.T) {
	data, err := library.ReadFile("library/" + ManifestsFolder + "/emojivoto-policy.yml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, emojivoto.PolicyManifest()) {
		t.Error("the library's emojivoto-policy.yml is not the application's")
	}
}
