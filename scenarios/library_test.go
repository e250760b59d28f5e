package scenarios

import (
	"bytes"
	"path"
	"slices"
	"strings"
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

func TestFoldersOfTheLibraryAreTakenByName(t *testing.T) {
	conformance, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range conformance.Scenarios {
		if scenario.Folder() != Conformance {
			t.Errorf("%s of folder %q is taken for conformance", scenario.Pos, scenario.Folder())
		}
	}
	whole, err := Library(Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, scenario := range whole.Scenarios {
		count[scenario.Folder()]++
	}
	if count[Conformance] != len(conformance.Scenarios) {
		t.Errorf("the whole library has %d scenarios of conformance, by itself it has %d", count[Conformance], len(conformance.Scenarios))
	}
	for folder := range count {
		if !slices.Contains(Folders(), folder) {
			t.Errorf("scenarios stand in %q, which is no folder of the library", folder)
		}
	}
	if _, err := Library("transition"); err == nil || !strings.Contains(err.Error(), `did you mean "transitions"?`) {
		t.Errorf("a misspelt folder: %v", err)
	}
}

// A name on the command line is a scenario's or a folder's.
func TestNoScenarioIsCalledLikeAFolder(t *testing.T) {
	whole, err := Library(Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range whole.Scenarios {
		if slices.Contains(Folders(), scenario.Metadata.Name) {
			t.Errorf("%s: %q is the name of a folder", scenario.Pos, scenario.Metadata.Name)
		}
	}
}

func TestTheFolderOfAFileIsTheLastPartOfItsPath(t *testing.T) {
	for file, want := range map[string]string{
		"scenarios/library/orders.yaml": Conformance, "scenarios/library/transitions/a.yaml": Transitions, "scenarios/library/faults/a.yaml.tmpl": Faults,
		"./mine/a.yaml": "mine", "/srv/policy/tests/a.yaml": "tests", "a.yaml": "",
	} {
		if got := FolderOf(file); got != want {
			t.Errorf("%s: folder %q, want %q", file, got, want)
		}
	}
}

// Editors find the schema by the first line.
func TestTheFirstLineOfEveryFileNamesTheSchema(t *testing.T) {
	for _, folder := range Folders() {
		files, err := filesOf(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := library.ReadFile(strings.TrimPrefix(file, "scenarios/"))
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(data), "\n")
			where, names := strings.CutPrefix(line, "# yaml-language-server: $schema=")
			if named := path.Join(path.Dir(file), where); !names || named != "scenarios/schema.json" {
				t.Errorf("%s begins with %q, which names %s instead of scenarios/schema.json", file, line, named)
			}
		}
	}
}

// wantTransitions is how many files of transitions there are at least. A template
// counts as one.
const wantTransitions = 60

func TestTheLibraryHasTransitionsByTopic(t *testing.T) {
	files, err := filesOf(Transitions)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < wantTransitions {
		t.Errorf("%d files of transitions, want %d", len(files), wantTransitions)
	}
	set, err := Library(Transitions)
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range set.Scenarios {
		if !slices.Contains(scenario.Metadata.Labels, "transition") || len(scenario.Metadata.Labels) < 2 {
			t.Errorf("%s: labels %v, want transition and a topic", scenario.Pos, scenario.Metadata.Labels)
		}
		if len(scenario.Spec.Traffic) == 0 {
			t.Errorf("%s: nobody calls while the policy changes", scenario.Pos)
		}
	}
}

// reported are the defects of other meshes that have a scenario each.
var reported = []string{
	"cilium/cilium #4142", "cilium/cilium #2700", "cilium/cilium #5290", "cilium/cilium #28645", "cilium/cilium #3993",
	"linkerd/linkerd2 #14298", "linkerd/linkerd2 #12469", "linkerd/linkerd2 #13865", "linkerd/linkerd2 #13676", "linkerd/linkerd2 #7154",
	"linkerd/linkerd2 #7050", "linkerd/linkerd2 #7143", "linkerd/linkerd2 #8945", "linkerd/linkerd2 #10877", "linkerd/linkerd2 #11590", "linkerd/linkerd2 #14034",
}

func TestEveryReportedDefectHasAScenarioThatNamesIt(t *testing.T) {
	set, err := Library(Transitions)
	if err != nil {
		t.Fatal(err)
	}
	for _, issue := range reported {
		if !slices.ContainsFunc(set.Scenarios, func(s *Scenario) bool { return strings.HasSuffix(s.Spec.Summary, "("+issue+")") }) {
			t.Errorf("no scenario names %s", issue)
		}
	}
}
