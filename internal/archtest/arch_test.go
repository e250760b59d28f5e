package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/meshproof/meshproof/"

// rule says that no package whose path starts with one of from may depend,
// directly or through others, on a package whose path starts with one of never.
// Paths within the module are written without the module.
type rule struct {
	name  string
	from  []string
	never []string
	// except are prefixes below from that the rule does not hold for.
	except []string
}

var rules = []rule{
	{
		name:  "the mesh knows nothing of those who judge it",
		from:  []string{"internal/mesh/"},
		never: []string{"internal/policy/oracle", "internal/check", "internal/transition", "internal/history", "internal/rulebook", "internal/engine", "internal/proxytest", "scenarios", "suites", "reports", "clients"},
	},
	{
		name:  "who calls and who judges knows nothing of the mesh's logic",
		from:  []string{"clients", "internal/policy/", "internal/check", "internal/transition", "internal/history", "internal/rulebook", "internal/engine", "scenarios", "reports"},
		never: []string{"internal/mesh/"},
	},
	{
		name:  "report writers see the result tree only",
		from:  []string{"reports"},
		never: []string{"internal/", "clients", "workloads", "scenarios", "suites", "cmd/", "k8s.io/"},
	},
	{
		name:  "the scenario language does not know who runs it",
		from:  []string{"scenarios"},
		never: []string{"internal/engine", "internal/cluster", "suites", "cmd/"},
	},
	{
		name:  "clients do not know who drives them",
		from:  []string{"clients"},
		never: []string{"internal/engine", "internal/cluster", "internal/calibrate", "scenarios", "suites", "reports"},
	},
	{
		name:  "workloads stand alone",
		from:  []string{"workloads/emojivoto", "workloads/echo", "workloads/probed", "workloads/images"},
		never: []string{"internal/", "scenarios", "suites", "reports"},
	},
	{
		name:  "the policy vocabulary stands at the bottom",
		from:  []string{"internal/policy/api"},
		never: []string{"internal/mesh/", "internal/engine", "internal/cluster", "clients", "scenarios", "reports", "workloads"},
	},
	{
		name:  "the oracle knows the vocabulary of policy and nothing else of this module",
		from:  []string{"internal/policy/oracle"},
		never: []string{"internal/policy/objects", "internal/policy/explain", "internal/mesh", "internal/cluster", "internal/engine", "clients", "scenarios", "suites", "reports", "workloads", "cmd/"},
	},
	{
		name:  "what a run leaves to be judged again knows nothing of who carried it out",
		from:  []string{"internal/history", "internal/policy/asked"},
		never: []string{"internal/engine", "internal/cluster", "internal/session", "suites", "reports", "k8s.io/client-go/kubernetes"},
	},
	{
		name:  "who judges what happened knows nothing of who made it happen",
		from:  []string{"internal/check", "internal/transition"},
		never: []string{"internal/engine", "internal/cluster", "internal/session", "internal/generate", "suites", "k8s.io/client-go/kubernetes"},
	},
	{
		name: "the agent stays small: nothing in a pod links cluster makers, test frameworks or the typed clientset",
		from: []string{"cmd/meshproof-agent"},
		never: []string{"sigs.k8s.io/kind", "github.com/google/go-containerregistry", "github.com/onsi/", "github.com/fullstorydev/grpcurl", "k8s.io/kubernetes",
			"k8s.io/apiserver", "k8s.io/client-go/kubernetes/typed", "internal/cluster", "internal/engine", "scenarios", "suites", "reports"},
	},
	{
		name:   "the proxy does not talk to the API server",
		from:   []string{"internal/mesh/proxy", "internal/mesh/identity", "internal/mesh/intercept"},
		never:  []string{"k8s.io/client-go"},
		except: []string{"internal/mesh/identity/issuer"},
	},
	{
		name:  "what relays HTTP knows neither who has it relayed nor what decides",
		from:  []string{"internal/mesh/proxy/http1", "internal/mesh/proxy/http2"},
		never: []string{"internal/mesh/proxy/inbound", "internal/mesh/proxy/outbound", "internal/mesh/proxy/policy", "google.golang.org/grpc", "github.com/prometheus/"},
	},
	{
		name:  "who has clusters and who takes turns on them knows nothing of what runs there",
		from:  []string{"internal/cluster", "internal/turn", "internal/guest"},
		never: []string{"internal/engine", "internal/session", "suites", "reports"},
	},
	{
		name:  "who makes scenarios by chance knows neither who carries them out nor the mesh",
		from:  []string{"internal/generate"},
		never: []string{"internal/engine", "internal/cluster", "internal/session", "internal/mesh", "suites", "reports", "k8s.io/client-go/kubernetes"},
	},
	{
		name:  "who has generated scenarios carried out knows nothing of the mesh's logic",
		from:  []string{"internal/fuzz"},
		never: []string{"internal/mesh/", "internal/session", "internal/cli", "suites"},
	},
	{
		name:  "who measures what the machine and its clients can do knows nothing of policy and of clusters",
		from:  []string{"internal/calibrate"},
		never: []string{"internal/", "scenarios", "suites", "workloads", "cmd/", "k8s.io/", "clients/certify"},
	},
	{
		name:  "who keeps the book of time knows nothing of what it went into",
		from:  []string{"internal/walltime"},
		never: []string{"internal/", "clients", "scenarios", "suites", "workloads", "cmd/", "k8s.io/"},
	},
	{
		name:  "the command line is the last to know",
		from:  []string{"internal/engine", "internal/cluster", "scenarios", "reports", "clients", "workloads", "suites"},
		never: []string{"internal/cli", "cmd/"},
	},
}

type listed struct {
	ImportPath string
	Deps       []string
	Standard   bool
}

func TestArrowsGoOneWay(t *testing.T) {
	packages := list(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, p := range packages {
				if !under(p.ImportPath, rule.from) || under(p.ImportPath, rule.except) {
					continue
				}
				for _, dep := range p.Deps {
					// The standard library has folders of the same names.
					if standard(dep) {
						continue
					}
					if under(dep, rule.never) && !(under(dep, rule.from) && under(p.ImportPath, rule.from)) {
						t.Errorf("%s depends on %s", p.ImportPath, dep)
					}
				}
			}
		})
	}
}

// A rule whose prefix names nothing could not fail; the client-side of it must
// exist, so that a renamed folder is noticed.
func TestEveryRuleCoversAPackage(t *testing.T) {
	packages := list(t)
	for _, rule := range rules {
		covered := false
		for _, p := range packages {
			covered = covered || under(p.ImportPath, rule.from)
		}
		if !covered {
			t.Errorf("rule %q covers no package", rule.name)
		}
	}
}

// The control plane is a module of its own so that no dependency bump here
// compiles Kubernetes again; it must not reach back.
func TestTheKubernetesModuleImportsNothingOfThisOne(t *testing.T) {
	out, err := exec.Command("go", "-C", "../../cmd/meshproof-kube", "list", "-deps", "-f", "{{.ImportPath}}", ".").Output()
	if err != nil {
		t.Fatalf("go list in cmd/meshproof-kube: %v", commandError(err))
	}
	for line := range strings.Lines(string(out)) {
		path := strings.TrimSpace(line)
		if strings.HasPrefix(path, module) && !strings.HasPrefix(path, module+"cmd/meshproof-kube") {
			t.Errorf("meshproof-kube imports %s", path)
		}
	}
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Deps,Standard", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", commandError(err))
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("decode what go list printed: %v", err)
		}
		packages = append(packages, p)
	}
}

// under reports whether path is one of the prefixes or lies below it.
func under(path string, prefixes []string) bool {
	path = strings.TrimPrefix(path, module)
	for _, prefix := range prefixes {
		prefix = strings.TrimSuffix(prefix, "/")
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return false
}

func commandError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errors.New(string(exit.Stderr))
	}
	return err
}

// standard tells packages of the standard library, whose paths begin with no
// host name.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
