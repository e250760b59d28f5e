package rulebook

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

func TestEveryFeatureIsClaimedAndNothingElse(t *testing.T) {
	count := map[scenarios.Feature]int{}
	for _, claim := range library(t, scenarios.Folders()...) {
		if claim.Feature == "" {
			t.Errorf("%s: %s is of no feature", claim.Source, claim.ID)
		}
		if claim.Claim.Skip == "" {
			count[claim.Feature]++
		}
	}
	for _, one := range scenarios.Features() {
		if count[one.Feature] == 0 {
			t.Errorf("no claim is of feature %s", one.Feature)
		}
	}
}

// wantClaims is how many claims the suite makes at least.
const wantClaims = 500

// A table is easily made large; what the suite is worth shows in the rest.
func TestNoTableMakesMoreThanAThirdOfTheClaims(t *testing.T) {
	claims := library(t)
	if len(claims) < wantClaims {
		t.Errorf("%d claims, want %d", len(claims), wantClaims)
	}
	count := map[string]int{}
	for _, claim := range claims {
		count[claim.Source.File]++ // a table is a file, however many scenarios it makes
	}
	for file, n := range count {
		if n*3 > len(claims) {
			t.Errorf("%s makes %d of %d claims", file, n, len(claims))
		}
	}
}

// What nobody shows is told to readers with its reason, rule by rule; of two
// rules only the parts about egress are left out.
func TestTheDocumentsTellWhatIsOutOfScope(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "features", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## What is out of scope\n")
	if !found {
		t.Fatal("the page of features does not say what is out of scope")
	}
	told := map[string]bool{}
	id := `([A-Z])-(\d{2})`
	for _, span := range regexp.MustCompile(id+` to `+id).FindAllStringSubmatch(section, -1) {
		from, _ := strconv.Atoi(span[2]) // two digits
		to, _ := strconv.Atoi(span[4])
		for n := from; n <= to; n++ {
			told[fmt.Sprintf("%s-%02d", span[1], n)] = true
		}
	}
	for _, one := range regexp.MustCompile(id).FindAllString(section, -1) {
		told[one] = true
	}
	for _, rule := range Rules() {
		partly := rule.ID == "A-27" || rule.ID == "A-29"
		if out := rule.OutOfScope != ""; told[rule.ID] != (out || partly) {
			t.Errorf("%s: out of scope is %v, and the page of features names it: %v", rule.ID, out, told[rule.ID])
		}
	}
}
