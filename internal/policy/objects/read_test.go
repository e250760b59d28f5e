package objects

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func read(text string) (*Set, error) {
	return Read([]Source{{Name: "in", Stream: strings.NewReader(text)}}, Options{Namespace: "ns"})
}

// summary is what a set holds, in words.
func summary(set *Set) []string {
	var out []string
	for _, n := range set.World.Namespaces {
		out = append(out, "namespace "+n.Name)
	}
	for _, s := range set.World.Servers {
		out = append(out, fmt.Sprintf("server %s/%s %s %s", s.Namespace, s.Name, s.Spec.ProxyProtocol, s.Spec.AccessPolicy))
	}
	for _, w := range set.Workloads {
		out = append(out, fmt.Sprintf("%s as %s", w, w.Pod.Spec.ServiceAccountName))
	}
	for _, a := range set.Accounts {
		out = append(out, "account "+a.String())
	}
	for _, o := range set.Others {
		out = append(out, fmt.Sprintf("%s %s %s: %s", o.Place, o.Kind, o.Name, o.Why))
	}
	return out
}

func TestReading(t *testing.T) {
	for _, row := range []struct {
		claim, text string
		want        []string
	}{
		{"several documents, empty ones and comments among them", "---\n---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nnull\n", []string{"namespace a"}},
		{"a List, and a List of its own kind", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- apiVersion: v1\n  kind: NamespaceList\n  items: [{apiVersion: v1, kind: Namespace, metadata: {name: b}}]\n",
			[]string{"namespace a", "namespace b"}},
		{"JSON", `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}`, []string{"namespace a"}},
		{"anchors and merge keys", "apiVersion: v1\nkind: Namespace\nmetadata: &m {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  <<: &n {name: b}\n  labels: {c: d}\n", []string{"namespace a", "namespace b"}},
		{"defaults of the schema", "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a}\nspec: {podSelector: {}, port: http}\n", []string{"server ns/a unknown deny"}},
		{"what an old version does not know has no default (C-05)", "apiVersion: policy.linkerd.io/v1beta1\nkind: Server\nmetadata: {name: a}\nspec: {podSelector: {}, port: http}\n", []string{"server ns/a unknown "}},
		{"numbers and booleans as Kubernetes reads them", "apiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {name: a}\nspec: {server: {name: b}, client: {unauthenticated: yes}}\n", nil},
		{"what a cluster prints: status, managed fields, times", "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a, uid: x, resourceVersion: \"1\", creationTimestamp: 2026-01-01T00:00:00Z, managedFields: [{manager: kubectl}]}\nspec: {podSelector: {}, port: 1}\n",
			[]string{"server ns/a unknown deny"}},
		{"a status that is newer than the types here", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\nstatus: {phase: Running, fromTheFuture: {x: 1}}\n", []string{"ns/a as default", "account ns/default"}},
		{"workloads and the accounts that they and policies name", `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec: {template: {spec: {containers: []}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: c}
spec: {jobTemplate: {spec: {template: {spec: {serviceAccountName: cleaner, containers: []}}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: other}
spec: {containers: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: m}
spec: {identityRefs: [{kind: ServiceAccount, name: web, namespace: shop}]}
`, []string{"ns/sts/db as default", "ns/cronjob/c as cleaner", "other/p as default", "account ns/cleaner", "account ns/default", "account other/default", "account shop/web"}},
		{"other kinds are listed", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: policy.linkerd.io/v1alpha1\nkind: EgressNetwork\nmetadata: {name: b}\n",
			[]string{"in:1 ConfigMap a: does not concern inbound policy", "in:5 EgressNetwork b: concerns outbound traffic only"}},
	} {
		set, err := read(row.text)
		if err != nil {
			t.Errorf("%s: %v", row.claim, err)
			continue
		}
		if diff := cmp.Diff(row.want, summary(set)); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.claim, diff)
		}
	}
}

func TestWhatIsWrongIsSaidWithItsPlace(t *testing.T) {
	server := "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a}\nspec:\n  podSelector: {}\n  port: http\n"
	for _, row := range []struct {
		claim, text string
		want        []string
	}{
		{"no YAML", "a: [\n", []string{"in:1: did not find expected node content"}},
		{"no object", "- a\n", []string{"in:1: expected an object"}},
		{"no kind", "\nmetadata: {name: a}\n", []string{"in:2: an object needs apiVersion and kind"}},
		{"no name", "apiVersion: v1\nkind: Namespace\nmetadata:\n  labels: {}\n", []string{"in:3: Namespace has no metadata.name"}},
		{"a key twice", server + "  port: 1\n", []string{`in:7: the key "port" stands twice`}},
		{"an object twice", server + "---\n" + server, []string{"in:8: Server ns/a stands at in:1 too"}},
		{"an unknown field of a policy", server + "  protocol: gRPC\n", []string{"in:7: Server ns/a: there is no field spec.protocol"}},
		{"an unknown field and a value that is refused", server + "  protocol: gRPC\n  accessPolicy: alow\n", []string{"in:7: Server ns/a: there is no field spec.protocol", `in:8: Server ns/a: A-19: "alow"`}},
		{"an unknown field of a workload", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: b\n    port: []\n", []string{"in:7: Pod ns/a: there is no field spec.containers[0].port"}},
		{"a value of another type", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: {}\n", []string{"in:1: Pod ns/a: "}},
		{"a value of another type in a policy", strings.Replace(server, "podSelector: {}", "podSelector: []", 1), []string{"in:5: Server ns/a: spec.podSelector"}},
		{"a version that is not served", strings.Replace(server, "v1beta3", "v1", 1), []string{"in:1: Server ns/a: Server is not served in version v1, but in v1alpha1, v1beta1, v1beta2, v1beta3"}},
		{"a field that the version lacks (C-26)", "apiVersion: policy.linkerd.io/v1beta1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n  rules:\n  - timeouts: {request: 1s}\n", []string{"in:6: HTTPRoute ns/a: there is no field spec.rules[0].timeouts"}},
		{"an object of a List", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: policy.linkerd.io/v1beta3\n  kind: Server\n  metadata: {name: a}\n  spec:\n    podSelector: {}\n    port: http\n    proxyProtocol: grpc\n", []string{`in:10: Server ns/a: A-20: "grpc" is none of`}},
	} {
		_, err := read(row.text)
		var wrong Problems
		if !errors.As(err, &wrong) || len(wrong) != len(row.want) {
			t.Errorf("%s: %v", row.claim, err)
			continue
		}
		for i, want := range row.want {
			if !strings.HasPrefix(wrong[i].Error(), want) {
				t.Errorf("%s: %q, want %q", row.claim, wrong[i], want)
			}
		}
	}
}

func TestProblemsAreToldUpToABound(t *testing.T) {
	var text strings.Builder
	for i := range 3 * maxProblems {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n-%d, lables: {}}\n", i)
	}
	_, err := read(text.String())
	var wrong Problems
	if !errors.As(err, &wrong) || len(wrong) != maxProblems || wrong[0].Place.Line != 4 || wrong[1].Place.Line != 8 {
		t.Errorf("%d problems: %v", len(wrong), err)
	}
}

func TestFoldersAndFilesAreReadInOrder(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"b.yml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n", "a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
		"c.json": `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}`, "notes.txt": "not: [YAML", filepath.Join("sub", "d.yaml"): "apiVersion: v1\n",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := Read([]Source{{Name: folder}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"namespace a", "namespace b", "namespace c"}, summary(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for name, want := range map[string]string{filepath.Join(folder, "absent"): "no such file", t.TempDir(): "holds no .yaml"} {
		if _, err := Read([]Source{{Name: name}}, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryKindOfPolicyIsKept: a kind with a CRD and without a place in the world
// would be a panic.
func TestEveryKindOfPolicyIsKept(t *testing.T) {
	for kind, d := range definitions() {
		served, err := d.serves()
		if err != nil || len(served) == 0 {
			t.Errorf("%s: %v, %v", kind, served, err)
		}
		if into, keep := typed(kind.Kind); into == nil || keep == nil {
			t.Errorf("%s is not kept", kind)
		}
		for _, version := range served {
			if _, err := d.version(version); err != nil {
				t.Errorf("%s %s: %v", kind, version, err)
			}
		}
	}
	if len(definitions()) != len(api.CRDs()) {
		t.Errorf("%d kinds of %d CRDs", len(definitions()), len(api.CRDs()))
	}
}
