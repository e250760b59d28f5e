package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const sourceTree = "../.."

// documents are the texts whose commands must exist.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/features/*.md"} {
		paths, err := filepath.Glob(filepath.Join(sourceTree, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(sourceTree, path)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(text)
		}
	}
	return texts
}

var (
	bashBlock  = regexp.MustCompile("(?s)```bash\n(.*?)```")
	makeTarget = regexp.MustCompile(`\bmake ([a-z0-9]+)`)
	command    = regexp.MustCompile(`bin/meshproof((?: (?:[-a-zA-Z0-9./:=_,]+|'[^']*'|"[^"]*"))*)`)
	word       = regexp.MustCompile(`'[^']*'|"[^"]*"|[^ ]+`)
)

// TestEveryCommandOfTheDocumentsExists takes each command of a bash block
// through the same parser as the program does.
func TestEveryCommandOfTheDocumentsExists(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(sourceTree, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	commands, targets := 0, 0
	for name, text := range documents(t) {
		for _, block := range bashBlock.FindAllStringSubmatch(text, -1) {
			for _, found := range makeTarget.FindAllStringSubmatch(block[1], -1) {
				targets++
				if !regexp.MustCompile(`(?m)^` + found[1] + `:`).Match(makefile) {
					t.Errorf("%s: the Makefile has no target %s", name, found[1])
				}
			}
			for _, found := range command.FindAllStringSubmatch(block[1], -1) {
				commands++
				args := word.FindAllString(found[1], -1)
				for i := range args {
					args[i] = strings.Trim(args[i], `'"`)
				}
				cmd, rest, err := newRoot(IOStreams{}).Find(args)
				if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err == nil && cmd.Args != nil {
					err = cmd.Args(cmd, cmd.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: meshproof %s: %v", name, strings.Join(args, " "), err)
				}
			}
		}
	}
	if commands == 0 || targets == 0 {
		t.Errorf("%d commands and %d make targets were found: the documents are not read", commands, targets)
	}
}

// TestTheScenariosOfTheDocumentsAreSome parses what policy authors copy, and finds
// nothing in it.
func TestTheScenariosOfTheDocumentsAreSome(t *testing.T) {
	claims := []string{"7 claims in 1 scenarios", "12 claims in 1 scenarios"}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(documents(t)["docs/scenarios.md"], -1)
	if len(blocks) != len(claims) {
		t.Fatalf("docs/scenarios.md has %d scenarios, want %d", len(blocks), len(claims))
	}
	for i, block := range blocks {
		file := filepath.Join(t.TempDir(), "scenario.yaml")
		if err := os.WriteFile(file, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errOut := runLine(t, "run", file, "--dry-run")
		if code != ExitOK || !strings.Contains(out, claims[i]) {
			t.Errorf("exit code %d, want 0 and %s:\n%s%s", code, claims[i], out, errOut)
		}
		if code, out, errOut := runLine(t, "lint", file); code != ExitOK || out != "" {
			t.Errorf("lint: exit code %d, want 0 and nothing found:\n%s%s", code, out, errOut)
		}
	}
}

// TestTheReferenceListsEveryVerb keeps the table of README and the program's
// own list the same in both directions.
func TestTheReferenceListsEveryVerb(t *testing.T) {
	_, reference, found := strings.Cut(documents(t)["README.md"], "## meshproof\n")
	if !found {
		t.Fatal("README.md has no section on meshproof's verbs")
	}
	reference, _, _ = strings.Cut(reference, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(reference) {
		cells := strings.Split(strings.TrimSpace(strings.ReplaceAll(line, `\|`, "/")), "|")
		if len(cells) < 3 || !strings.Contains(cells[1], "`") {
			continue
		}
		for _, verb := range regexp.MustCompile("`([a-z]+)").FindAllStringSubmatch(cells[1], -1) {
			if listed[verb[1]] {
				t.Errorf("README.md lists %q twice", verb[1])
			}
			listed[verb[1]] = true
		}
	}
	offered := map[string]bool{}
	visit := func(cmd *cobra.Command) {
		if !cmd.Hidden {
			offered[cmd.Name()] = true
		}
	}
	for _, cmd := range newRoot(IOStreams{}).Commands() {
		visit(cmd)
	}
	for verb := range offered {
		if !listed[verb] {
			t.Errorf("README.md does not list %q", verb)
		}
	}
	for verb := range listed {
		if !offered[verb] {
			t.Errorf("README.md lists %q, which does not exist", verb)
		}
	}
}

// TestTheLookAroundOfTheReadmeWorks runs the block that a newcomer copies, as
// it stands, with a state folder of its own.
func TestTheLookAroundOfTheReadmeWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("the block uses kubectl, which is not on this machine")
	}
	for _, program := range []string{"meshproof", "meshproof-agent", "meshproof-kube"} {
		if _, err := os.Stat(filepath.Join(sourceTree, "bin", program)); err != nil {
			t.Skip("bin/ is not built: run `make build` first")
		}
	}
	var script string
	for _, block := range bashBlock.FindAllStringSubmatch(documents(t)["README.md"], -1) {
		if strings.Contains(block[1], "cluster create") {
			script = block[1]
		}
	}
	if script == "" {
		t.Fatal("README.md has no block that creates a cluster")
	}
	state := t.TempDir()
	shell := exec.Command("bash", "-euo", "pipefail", "-c", script)
	shell.Dir = sourceTree
	shell.Env = append(os.Environ(), "MESHPROOF_STATE_DIR="+state)
	t.Cleanup(func() { // for a script that ended half-way
		end := exec.Command(filepath.Join(sourceTree, "bin", "meshproof"), "cluster", "delete", "--name", "demo")
		end.Env = shell.Env
		_ = end.Run() // it is an error that it is gone already
	})
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the block fails: %v\n%s", err, out)
	}
	for what, text := range map[string]string{
		"the mesh did not become healthy": "Status check results are ✓", "there is no matrix": "emojivoto/deploy/voting    grpc 8080           server/voting-grpc",
	} {
		if !strings.Contains(string(out), text) {
			t.Errorf("%s:\n%s", what, out)
		}
	}
}
