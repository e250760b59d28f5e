package rulebook

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// root is the folder of the module.
const root = "../.."

// library is the claims of folders, those of conformance when none is named.
func library(t *testing.T, folders ...string) []*scenarios.PlannedClaim {
	t.Helper()
	set, err := scenarios.Library(folders...)
	if err != nil {
		t.Fatal(err)
	}
	return scenarios.NewPlan(set, nil).Claims()
}

func TestEveryRuleIsThereOnceWithATextAndAFeature(t *testing.T) {
	id := regexp.MustCompile(`^[A-Z]-\d{2}$`)
	seen := map[string]bool{}
	for _, rule := range Rules() {
		if !id.MatchString(rule.ID) || seen[rule.ID] {
			t.Errorf("%s: want a letter and two digits, once", rule.ID)
		}
		seen[rule.ID] = true
		if rule.Text == "" || strings.Contains(rule.Text, "\n") || strings.HasSuffix(rule.Text, ".") {
			t.Errorf("%s: want one line without a full stop, have %q", rule.ID, rule.Text)
		}
		if !slices.Contains(rule.Feature.Values(), string(rule.Feature)) {
			t.Errorf("%s: %q is no feature", rule.ID, rule.Feature)
		}
	}
}

// The count is of the rule book's sections 1 to 16: a rule that is lost here
// would count as shown.
func TestTheCatalogueIsComplete(t *testing.T) {
	want := map[string]int{"C": 30, "A": 32, "S": 11, "D": 21, "M": 14, "X": 48, "P": 16, "T": 26, "I": 7, "H": 15, "N": 16, "R": 12,
		"L": 13, "B": 8, "W": 24, "J": 5, "K": 7, "V": 18, "E": 14}
	have := map[string]int{}
	for _, rule := range Rules() {
		have[rule.ID[:1]]++
	}
	for letter, n := range want {
		if have[letter] != n {
			t.Errorf("%d rules of letter %s, want %d", have[letter], letter, n)
		}
	}
	if len(have) != len(want) {
		t.Errorf("letters %v, want those of %v", have, want)
	}
}

// What is out of scope was decided once; nothing joins it silently.
func TestExactlyWhatWasDecidedIsOutOfScope(t *testing.T) {
	decided := []string{"C-24", "C-25", "A-30", "A-32", "S-08", "S-10", "T-35", "V-30", "V-31", "V-32", "E-10", "X-08", "J-05"}
	for _, rule := range Rules() {
		if out := rule.OutOfScope != ""; out != slices.Contains(decided, rule.ID) {
			t.Errorf("%s: out of scope is %v", rule.ID, out)
		}
	}
}

func TestWhatClaimsShowIsInTheCatalogue(t *testing.T) {
	for _, claim := range library(t, scenarios.Folders()...) {
		for _, id := range claim.Shows {
			if !Known(id) {
				t.Errorf("%s: %s is no rule", claim.Source, id)
			}
		}
	}
}

// Rows of the rule book's table of dialects are negated too; they have no ID.
func TestWhatIsNegatedIsInTheCatalogueAndInScope(t *testing.T) {
	rules := map[string]Rule{}
	for _, rule := range Rules() {
		rules[rule.ID] = rule
	}
	for _, negation := range oracle.Negations() {
		if strings.HasPrefix(negation.Rule, "19.1 ") {
			continue
		}
		if rule, known := rules[negation.Rule]; !known || rule.OutOfScope != "" {
			t.Errorf("the negation %q is of %s, which is no rule in scope", negation.As, negation.Rule)
		}
	}
}

func TestWhatCannotBeSeenIsShownByTests(t *testing.T) {
	for _, rule := range Rules() {
		if rule.Unseen != "" && (len(rule.Tests) == 0 || rule.OutOfScope != "") {
			t.Errorf("%s cannot be seen from outside, so tests have to show it", rule.ID)
		}
	}
}

func TestEveryTestThatTheCatalogueNamesExists(t *testing.T) {
	for _, rule := range Rules() {
		for _, name := range rule.Tests {
			folder, test := split(name)
			test, sub, nested := strings.Cut(test, "/")
			texts, found := declared(t, folder, test)
			if !found {
				t.Errorf("%s: there is no test %s in %s", rule.ID, test, folder)
				continue
			}
			for part := range strings.SplitSeq(sub, "/") {
				if nested && !slices.Contains(texts, strings.ReplaceAll(part, " ", "_")) {
					t.Errorf("%s: %s has no subtest %q", rule.ID, test, part)
				}
			}
		}
	}
}

// declared looks for a test in the test files of a folder, and lists the texts of
// those files, with underscores for blanks: names of subtests are among them.
func declared(t *testing.T, folder, test string) (texts []string, found bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range parsed.Decls {
			f, is := declaration.(*ast.FuncDecl)
			found = found || is && f.Recv == nil && f.Name.Name == test
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if literal, is := n.(*ast.BasicLit); is && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					texts = append(texts, strings.ReplaceAll(text, " ", "_"))
				}
			}
			return true
		})
	}
	return texts, found
}

// A test that is renamed or deleted must be noticed here.
func TestATestThatDoesNotExistIsNotFound(t *testing.T) {
	if _, found := declared(t, "internal/rulebook", "TestATestThatDoesNotExistIsNotFound"); !found {
		t.Error("this test was not found")
	}
	if _, found := declared(t, "internal/rulebook", "TestOfNothing"); found {
		t.Error("a test was found that does not exist")
	}
}
