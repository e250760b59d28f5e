package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

// TestThePagesOfFeaturesSayWhatIsSo does what a reader of docs/features does: it
// saves the manifest of each feature's page as policy.yaml and enters the page's commands, which
// say themselves what they expect.
func TestThePagesOfFeaturesSayWhatIsSo(t *testing.T) {
	manifest := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	// A command that is to end otherwise than well says so behind a hash: the
	// exit code, and a text that is told.
	otherwise := regexp.MustCompile(`# exit code (\d+): (.*)$`)
	hump := regexp.MustCompile(`([a-z])([A-Z])`)
	for _, feature := range scenarios.Features() {
		if feature.Profile == scenarios.All {
			continue // the harness itself, which docs/clusters.md is about
		}
		t.Run(string(feature.Feature), func(t *testing.T) {
			name := strings.ToLower(hump.ReplaceAllString(string(feature.Feature), "$1-$2"))
			text, err := os.ReadFile(filepath.Join(sourceTree, "docs", "features", name+".md"))
			if err != nil {
				t.Fatal(err)
			}
			yaml := manifest.FindAllStringSubmatch(string(text), -1)
			if len(yaml) != 1 {
				t.Fatalf("the page has %d manifests, want the one that is pasted", len(yaml))
			}
			policy := filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(policy, []byte(yaml[0][1]), 0o600); err != nil {
				t.Fatal(err)
			}
			commands := 0
			for _, block := range bashBlock.FindAllStringSubmatch(string(text), -1) {
				for line := range strings.SplitSeq(block[1], "\n") {
					found := command.FindStringSubmatch(line)
					if found == nil {
						continue
					}
					commands++
					args := word.FindAllString(found[1], -1)
					for i := range args {
						args[i] = strings.Trim(args[i], `'"`)
						switch {
						case args[i] == "policy.yaml":
							args[i] = policy
						case strings.HasPrefix(args[i], "workloads/"):
							args[i] = filepath.Join(sourceTree, args[i])
						}
					}
					want, told := "0", ""
					if end := otherwise.FindStringSubmatch(line); end != nil {
						want, told = end[1], end[2]
					}
					code, out, errOut := runLine(t, args...)
					if got := string(rune('0' + code)); got != want || !strings.Contains(errOut, told) {
						t.Errorf("%s\nexit code %d, want %s and %q:\n%s%s", line, code, want, told, out, errOut)
					}
				}
			}
			if commands == 0 {
				t.Error("the page has no command that shows what to expect")
			}
		})
	}
}
