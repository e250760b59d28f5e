package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the Kustomize base again")

// kustomizeBase is what `meshproof gen job --shards 3` prints, for those who keep
// their manifests in a repository.
const kustomizeBase = sourceTree + "/workloads/kustomize/base"

// fileOf says in which file of the base an object stands.
func fileOf(object map[string]any) string {
	switch object["kind"] {
	case "Namespace":
		return "namespace.yaml"
	case "Job":
		return "job.yaml"
	}
	return "rbac.yaml"
}

// documentsOf parses a stream of manifests, by kind and name.
func documentsOf(t *testing.T, text []byte) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for _, one := range bytes.Split(append([]byte("\n"), text...), []byte("\n---\n")) {
		var object map[string]any
		if err := yaml.Unmarshal(one, &object); err != nil {
			t.Fatalf("%v in:\n%s", err, one)
		}
		if object != nil {
			all[fmt.Sprint(object["kind"], " ", object["metadata"].(map[string]any)["name"])] = object
		}
	}
	return all
}

// built is the base as kustomize makes it, where kubectl is at hand, and else
// what its files say.
func built(t *testing.T) []byte {
	t.Helper()
	if kubectl, err := exec.LookPath("kubectl"); err == nil {
		out, err := exec.Command(kubectl, "kustomize", kustomizeBase).Output()
		if err != nil {
			t.Fatalf("kubectl kustomize: %v", err)
		}
		return out
	}
	text, err := os.ReadFile(filepath.Join(kustomizeBase, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct{ Resources []string }
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, name := range kustomization.Resources {
		text, err := os.ReadFile(filepath.Join(kustomizeBase, name))
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, "---\n"...), text...)
	}
	return out
}

func TestTheKustomizeBaseIsWhatGenJobPrints(t *testing.T) {
	code, text, talk := runLine(t, "gen", "job", "--shards", "3")
	if code != ExitOK {
		t.Fatal(talk)
	}
	want := documentsOf(t, []byte(text))
	if *update {
		files := map[string]string{}
		for _, one := range strings.Split(text, "---\n")[1:] {
			for _, object := range documentsOf(t, []byte(one)) {
				if file := fileOf(object); files[file] == "" {
					files[file] = one
				} else {
					files[file] += "---\n" + one
				}
			}
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(kustomizeBase, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(want, documentsOf(t, built(t))); diff != "" || len(want) < 6 {
		t.Errorf("the base differs from gen job (-gen +base); go test ./internal/cli -run Kustomize -update writes it again:\n%s", diff)
	}
}

// argsOf are those of the program in the pods that the manifests make.
func argsOf(t *testing.T, text string) []string {
	t.Helper()
	for _, object := range documentsOf(t, []byte(text)) {
		spec, _ := object["spec"].(map[string]any)
		if object["kind"] == "CronJob" {
			spec = spec["jobTemplate"].(map[string]any)["spec"].(map[string]any)
		} else if object["kind"] != "Job" {
			continue
		}
		pod := spec["template"].(map[string]any)["spec"].(map[string]any)
		var args []string
		for _, arg := range pod["containers"].([]any)[0].(map[string]any)["args"].([]any) {
			args = append(args, arg.(string))
		}
		return args
	}
	t.Fatalf("no Job in:\n%s", text)
	return nil
}

// What is printed must be a command line of this very program.
func TestTheArgumentsOfThePodsAreThoseOfRun(t *testing.T) {
	for _, line := range [][]string{
		{"gen", "job"}, {"gen", "job", "--shards", "3", "walk-through", "probes"}, {"gen", "cronjob", "--schedule", "0 2 * * *", "--seed", "5", "-l", "probes || tcp"},
		{"gen", "job", "--registry", "registry.example", "probes", "--", "--parallel", "4"},
	} {
		code, text, talk := runLine(t, line...)
		if code != ExitOK {
			t.Errorf("%v: %s", line, talk)
			continue
		}
		args := argsOf(t, text)
		cmd, rest, err := newRoot(IOStreams{}).Find(args)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil || cmd.Name() != "run" {
			t.Errorf("%v prints %v: %v", line, args, err)
		}
		for _, arg := range line[2:] {
			if !strings.HasPrefix(arg, "-") && !slices.Contains(args, arg) && arg != "3" && !strings.Contains(arg, "*") {
				t.Errorf("%v prints %v, which lacks %q", line, args, arg)
			}
		}
	}
}

func TestGenRefusesWhatCouldNotRun(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"job", "--shards", "0"}, "--shards"},
		{[]string{"job", "absent"}, "absent"},
		{[]string{"job", "-l", "absent"}, "no claim"},
		{[]string{"job", "./scenario.yaml"}, "not in the image"},
		{[]string{"job", "--namespace", "Not_One"}, "--namespace"},
		{[]string{"job", "--image-pull-policy", "Often"}, "--image-pull-policy"},
		{[]string{"cronjob", "--schedule", "tonight"}, "--schedule"},
		{[]string{"cronjob", "--schedule", ""}, "--schedule"},
		{[]string{"job", "--", "--nonsense"}, "after --: unknown flag: --nonsense"},
		{[]string{"job", "--", "--shard", "1/2"}, "--shard cannot be set"},
		{[]string{"job", "--", "walk-through"}, "is no flag"},
		{[]string{"nonsense"}, "accepts 0 arg"},
	} {
		code, out, talk := runLine(t, append([]string{"gen"}, c.args...)...)
		if code != ExitUsage || out != "" || !strings.Contains(talk, c.want) || strings.Count(talk, "\n") != 1 {
			t.Errorf("%v: exit code %d, printed %q, said %q", c.args, code, out, talk)
		}
	}
}

// A run that leaves the mesh's settings alone gets no rights to change them.
func TestTheRightsAreNoMoreThanTheScenariosNeed(t *testing.T) {
	installs := func(args ...string) bool {
		code, text, talk := runLine(t, append([]string{"gen", "job"}, args...)...)
		if code != ExitOK {
			t.Fatal(talk)
		}
		if strings.Contains(text, "'*'") {
			t.Errorf("gen job %v grants everything", args)
		}
		return strings.Contains(text, "  - clusterrolebindings\n")
	}
	for _, c := range []struct {
		args []string
		want bool
	}{{[]string{"walk-through"}, false}, {[]string{"walk-through", "cluster-default"}, true}, {[]string{"walk-through", "--install-mesh"}, true}, {nil, true}} {
		if got := installs(c.args...); got != c.want {
			t.Errorf("gen job %v: the rights to install the mesh are granted: %v", c.args, got)
		}
	}
}
