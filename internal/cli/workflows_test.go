package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/meshproof/meshproof/internal/session"
)

// workflow is what these tests look at in a workflow of GitHub Actions.
type workflow struct {
	Permissions map[string]string `yaml:"permissions"`
	Jobs        map[string]job    `yaml:"jobs"`
}

type job struct {
	Permissions map[string]string `yaml:"permissions"`
	Timeout     int               `yaml:"timeout-minutes"`
	Strategy    struct {
		Matrix map[string]any `yaml:"matrix"`
	} `yaml:"strategy"`
	Steps []step `yaml:"steps"`
}

type step struct {
	Uses string            `yaml:"uses"`
	Run  string            `yaml:"run"`
	If   string            `yaml:"if"`
	With map[string]string `yaml:"with"`
}

func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(sourceTree, ".github", "workflows", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("there is no workflow (%v)", err)
	}
	all := map[string]workflow{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var w workflow
		if err := yaml.Unmarshal(data, &w); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(path)] = w
	}
	return all
}

// matrix lists the values of each of a job's instances; one without any for a
// job without a matrix. Either everything is listed under include, or there is
// one dimension.
func (j job) matrix(t *testing.T) []map[string]string {
	t.Helper()
	var all []map[string]string
	for key, value := range j.Strategy.Matrix {
		for _, entry := range value.([]any) {
			values := map[string]string{}
			if key != "include" {
				values[key] = fmt.Sprint(entry)
			} else {
				for k, v := range entry.(map[string]any) {
					values[k] = fmt.Sprint(v)
				}
			}
			all = append(all, values)
		}
	}
	if len(all) == 0 {
		return []map[string]string{{}}
	}
	return all
}

var matrixValue = regexp.MustCompile(`\$\{\{ *matrix\.([a-z]+) *\}\}`)

// onlyOn is the one condition over a matrix that is used.
var onlyOn = regexp.MustCompile(`^matrix\.cluster == '([a-z]+)'$`)

// hostCommand are the only ones that are not this project's own: they prepare
// the machine, or move a file between two of ours.
var hostCommand = regexp.MustCompile(`^(sudo sysctl -w kernel\.apparmor_restrict_unprivileged_userns=0|docker pull kindest/node:\S+|install -D artifacts/latest/run\.json green/run\.json)$`)

// TestEveryCommandOfTheWorkflowsExists expands each command for each entry of
// its job's matrix and takes it through make, without running it, or through the
// program's own parser.
func TestEveryCommandOfTheWorkflowsExists(t *testing.T) {
	commands := 0
	for file, w := range workflows(t) {
		for name, j := range w.Jobs {
			for _, values := range j.matrix(t) {
				for _, s := range j.Steps {
					if only := onlyOn.FindStringSubmatch(s.If); only != nil && only[1] != values["cluster"] {
						continue
					}
					script := matrixValue.ReplaceAllStringFunc(s.Run, func(found string) string { return values[matrixValue.FindStringSubmatch(found)[1]] })
					for line := range strings.Lines(script) {
						if line = strings.TrimSpace(line); line == "" {
							continue
						}
						commands++
						if err := exists(line); err != nil {
							t.Errorf("%s, job %s: %s: %v", file, name, line, err)
						}
					}
				}
			}
		}
	}
	if commands < 10 {
		t.Errorf("%d commands were found: the workflows are not read", commands)
	}
}

// TestEveryCommandForOtherCIExists reads docs/ci.md, whose blocks are in the
// languages of several CI systems.
func TestEveryCommandForOtherCIExists(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```[a-z]+\n(.*?)```").FindAllStringSubmatch(documents(t)["docs/ci.md"], -1)
	commands := 0
	for _, block := range blocks {
		for _, line := range regexp.MustCompile(`(?:make|bin/meshproof) [^'"\n;&|>]+`).FindAllString(block[1], -1) {
			commands++
			if err := exists(strings.TrimSpace(line)); err != nil {
				t.Errorf("docs/ci.md: %s: %v", line, err)
			}
		}
	}
	if commands < 5 {
		t.Errorf("%d commands were found: the document is not read", commands)
	}
}

func exists(line string) error {
	line, _, _ = strings.Cut(line, " >> ")
	args := strings.Fields(line)
	switch {
	case hostCommand.MatchString(line):
		return nil
	case args[0] == "make":
		return made(args[1:])
	case args[0] == "bin/meshproof":
		cmd, rest, err := newRoot(IOStreams{}).Find(args[1:])
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil && cmd.Args != nil {
			err = cmd.Args(cmd, cmd.Flags().Args())
		}
		return err
	}
	return fmt.Errorf("it is none of this repository's commands")
}

// made asks make what it would run, and looks whether a suite that is among it
// knows the flags it is given.
func made(args []string) error {
	var failure bytes.Buffer
	dry := exec.Command("make", append([]string{"--no-print-directory", "-n"}, args...)...)
	dry.Dir, dry.Stderr = sourceTree, &failure
	out, err := dry.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, failure.String())
	}
	for line := range strings.Lines(string(out)) {
		_, given, suite := strings.Cut(line, ".test -")
		if !suite {
			continue
		}
		flags := flag.NewFlagSet("suite", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		session.AddFlags(flags)
		own := slices.DeleteFunc(strings.Fields("-"+given), func(arg string) bool {
			return strings.HasPrefix(arg, "-ginkgo.") || strings.HasPrefix(arg, "-test.")
		})
		if err := flags.Parse(own); err != nil {
			return err
		}
		if flags.NArg() > 0 {
			return fmt.Errorf("the suite is given %q", flags.Args())
		}
	}
	return nil
}

// TestTheWorkflowsAreSoundAndCarefulOnes holds what a reviewer would ask for.
func TestTheWorkflowsAreSoundAndCarefulOnes(t *testing.T) {
	pinned := regexp.MustCompile(`^actions/[a-z-]+(/[a-z]+)?@v[0-9]+$`)
	image := regexp.MustCompile(`^kindest/node:v1\.[0-9]+\.[0-9]+@sha256:[0-9a-f]{64}$`)
	for file, w := range workflows(t) {
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s: permissions %v, want to read contents and no more", file, w.Permissions)
		}
		minors, useDefault := map[string]bool{}, false
		for name, j := range w.Jobs {
			if j.Timeout == 0 || j.Permissions != nil {
				t.Errorf("%s, job %s: timeout %d minutes, permissions %v; want a timeout and no further right", file, name, j.Timeout, j.Permissions)
			}
			for _, values := range j.matrix(t) {
				if values["cluster"] != "kind" {
					continue
				}
				if !image.MatchString(values["image"]) {
					t.Errorf("%s, job %s: %q is no node image with its digest", file, name, values["image"])
				}
				minors[strings.Join(strings.Split(values["image"], ".")[:2], ".")] = true
				useDefault = useDefault || values["image"] == defaults.Image
			}
			for _, s := range j.Steps {
				if s.Uses != "" && !pinned.MatchString(s.Uses) {
					t.Errorf("%s, job %s: %s is not GitHub's own at a major version", file, name, s.Uses)
				}
				if strings.HasPrefix(s.Uses, "actions/upload-artifact@") && s.If != "always()" {
					t.Errorf("%s, job %s: %s is not uploaded when the run failed", file, name, s.With["name"])
				}
			}
		}
		if !useDefault {
			t.Errorf("%s: none of the node images is the default of the kind library, %s", file, defaults.Image)
		}
		if file == "conformance.yaml" && len(minors) < 3 {
			t.Errorf("%s: %d minor versions of Kubernetes, want at least 3", file, len(minors))
		}
	}
}

// TestTheWorkflowsAreValid has them read as GitHub reads them: syntax, contexts
// and the inputs of the actions.
func TestTheWorkflowsAreValid(t *testing.T) {
	var findings strings.Builder
	linter, err := actionlint.NewLinter(&findings, &actionlint.LinterOptions{WorkingDir: sourceTree})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for name := range workflows(t) {
		paths = append(paths, filepath.Join(sourceTree, ".github", "workflows", name))
	}
	if _, err := linter.LintFiles(paths, nil); err != nil {
		t.Fatal(err)
	}
	if findings.Len() > 0 {
		t.Error(findings.String())
	}
}
