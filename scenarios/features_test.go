package scenarios

import (
	"strings"
	"testing"
)

func libraryPlan(t *testing.T) *Plan {
	t.Helper()
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	return NewPlan(set, nil)
}

func TestEveryClaimOfTheLibraryBelongsToAFeatureAndIsFoundByIt(t *testing.T) {
	for _, claim := range libraryPlan(t).Claims() {
		if claim.Feature == "" {
			t.Errorf("%s: %s belongs to no feature", claim.Source, claim.ID)
			continue
		}
		for _, label := range []string{string(claim.Feature), string(claim.Feature.Profile())} {
			if !contains(claim.Labels, label) {
				t.Errorf("%s: %s has no label %s", claim.Source, claim.ID, label)
			}
		}
	}
}

// The core profile is what the documents say: nothing of them is shown by other
// features alone. Routes are the exception that the document itself puts off.
func TestTheCoreProfileShowsEveryStatementOfTheDocuments(t *testing.T) {
	shown := map[string]bool{"DOC-42": true}
	for _, claim := range libraryPlan(t).Claims() {
		for _, id := range claim.Shows {
			shown[id] = shown[id] || claim.Feature.Profile() == Core
		}
	}
	for n := 1; n <= Statements; n++ {
		if !shown[Statement(n)] {
			t.Errorf("%s is shown by no claim of a core feature", Statement(n))
		}
	}
}

func TestFeaturesAreToldAndTheirProfilesHoldEachOther(t *testing.T) {
	seen := map[Feature]bool{}
	for _, one := range Features() {
		if one.Text == "" || strings.HasSuffix(one.Text, ".") || seen[one.Feature] {
			t.Errorf("%s: want one line without a full stop, once", one.Feature)
		}
		seen[one.Feature] = true
	}
	for _, test := range []struct {
		profile, one Profile
		holds        bool
	}{{Core, Core, true}, {Core, Extended, false}, {Extended, Core, true}, {Extended, All, false}, {All, Extended, true}, {All, All, true}} {
		if test.profile.Holds(test.one) != test.holds {
			t.Errorf("%s holds %s is %v", test.profile, test.one, !test.holds)
		}
	}
}

func TestWhatAChoiceLeavesOutIsSkippedWithTheReasonAndStaysInThePlan(t *testing.T) {
	all := len(libraryPlan(t).Claims())
	for _, test := range []struct {
		name   string
		choice Choice
		judged func(Feature) bool
		reason string
	}{
		{"everything", Choice{}, func(Feature) bool { return true }, ""},
		{"core", Choice{Profile: Core}, func(f Feature) bool { return f.Profile() == Core }, "is not in profile core"},
		{"extended", Choice{Profile: Extended}, func(f Feature) bool { return f != FeatureCluster }, "feature Cluster is not in profile extended"},
		{"some", Choice{Only: []Feature{FeatureProbes, FeatureAuthz}}, func(f Feature) bool { return f == FeatureProbes || f == FeatureAuthz }, "is not among those asked for"},
		{"but one", Choice{Exempt: []Feature{FeatureProbes}}, func(f Feature) bool { return f != FeatureProbes }, "feature Probes is exempt"},
		{"exempt wins", Choice{Only: []Feature{FeatureProbes}, Exempt: []Feature{FeatureProbes}}, func(Feature) bool { return false }, "is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := libraryPlan(t)
			test.choice.Apply(plan)
			if got := len(plan.Claims()); got != all {
				t.Fatalf("%d claims of %d are left", got, all)
			}
			for _, claim := range plan.Claims() {
				if claim.Claim.Skip != "" {
					continue
				}
				if judged := claim.Skip == ""; judged != test.judged(claim.Feature) {
					t.Fatalf("%s of feature %s: judged is %v", claim.ID, claim.Feature, judged)
				}
				if claim.Skip != "" && !strings.Contains(claim.Skip, test.reason) {
					t.Fatalf("%s is skipped because %q, want %q", claim.ID, claim.Skip, test.reason)
				}
			}
		})
	}
}
