package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/workloads/emojivoto"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/viz"
)

const (
	// tableBudget is for the table to show what has happened: pods start, the
	// bot votes, the scraper comes round.
	tableBudget = 90 * time.Second
	// tableInterval is between two questions.
	tableInterval = time.Second
)

const adminServer = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {namespace: emojivoto, name: admin}
spec: {podSelector: {matchLabels: {app: voting-svc}}, port: linkerd-admin, proxyProtocol: HTTP/1}
`

const scraperGrant = `
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {namespace: emojivoto, name: scrapes}
spec: {server: {name: admin}, client: {meshTLS: {serviceAccounts: [{name: scraper, namespace: linkerd-viz}]}}}
`

// TestAuthzTellsWhoWasLetInAndWhenItCannotTell walks the scraper through being
// let in by default, being denied like anybody else, and being granted access.
func TestAuthzTellsWhoWasLetInAndWhenItCannotTell(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	bin, err := filepath.Abs(filepath.Join(sourceTree, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"meshproof", "meshproof-agent", "meshproof-kube"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			t.Skip("bin/ is not built: run `make build` first")
		}
	}
	t.Setenv("MESHPROOF_STATE_DIR", t.TempDir())
	verb := func(args ...string) string {
		t.Helper()
		command := exec.Command(filepath.Join(bin, "meshproof"), args...)
		var out, talk bytes.Buffer
		command.Stdout, command.Stderr = &out, &talk
		if err := command.Run(); err != nil {
			t.Fatalf("meshproof %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), talk.String())
		}
		return out.String()
	}
	told := func(what, text string, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", what, want, text)
			}
		}
	}
	verb("cluster", "create", "--name", "authz")
	t.Cleanup(func() { verb("cluster", "delete", "--name", "authz") })
	kubeconfig := strings.TrimSpace(verb("cluster", "kubeconfig", "--name", "authz"))
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(what, manifests string) {
		t.Helper()
		if err := engine.Apply(t.Context(), config, []byte(manifests)); err != nil {
			t.Fatalf("apply %s: %v", what, err)
		}
	}
	apply("the mesh", verb("install"))
	verb("check", "--kubeconfig", kubeconfig, "--wait", tableBudget.String())
	apply("the scraper", viz.Manifests())
	var injected bytes.Buffer
	if err := mesh.InjectManifests(bytes.NewReader(emojivoto.Manifest()), &injected); err != nil {
		t.Fatal(err)
	}
	apply("emojivoto", injected.String())
	verb("check", "--kubeconfig", kubeconfig, "--proxy", "-n", "emojivoto", "--wait", tableBudget.String())

	// until asks for the table until it shows what is wanted.
	until := func(when string, wanted ...string) {
		t.Helper()
		deadline := time.NewTimer(tableBudget)
		defer deadline.Stop()
		again := time.NewTicker(tableInterval)
		defer again.Stop()
		for {
			table := verb("authz", "--kubeconfig", kubeconfig, "-n", "emojivoto", "deploy/voting", "-t", "15s")
			missing := ""
			for _, text := range wanted {
				if !strings.Contains(table, text) {
					missing = text
				}
			}
			if missing == "" {
				return
			}
			select {
			case <-deadline.C:
				t.Fatalf("%s, the table does not show %q:\n%s", when, missing, table)
			case <-again.C:
			}
		}
	}
	until("under the default policy", "default:all-unauthenticated", "default/all-unauthenticated", "default/probe")
	apply("a Server without authorization", adminServer)
	until("while the scraper is denied", "could not be read", "denied by policy", "grant ServiceAccount scraper")
	apply("the scraper's grant", scraperGrant)
	until("once the scraper is granted", "serverauthorization/scrapes")
	told("the granting object", verb("authz", "--kubeconfig", kubeconfig, "-n", "emojivoto", "deploy/voting", "--policies"), "SERVER_AUTHORIZATION", "scrapes")
	told("what is built in", verb("authz", "--kubeconfig", kubeconfig, "-n", "emojivoto", "deploy/voting", "--policies", "-o", "wide"), "default/all-unauthenticated")

	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	pods, err := client.CoreV1().Pods("emojivoto").List(t.Context(), metav1.ListOptions{LabelSelector: "app=voting-svc"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatal("no pod of voting:", err)
	}
	pod := "emojivoto/" + pods.Items[0].Name
	told("the policy of a port without a Server", verb("diagnostics", "policy", "--kubeconfig", kubeconfig, pod, "grpc"), "default/all-unauthenticated", "enforced   yes")
	told("the policy of a port with one", verb("diagnostics", "policy", "--kubeconfig", kubeconfig, pod, "4191"), "server/admin", "serverauthorization/scrapes", "enforced   yes")
	var answer struct {
		Enforced bool
		Server   struct{ Labels map[string]string }
	}
	if err := json.Unmarshal([]byte(verb("diagnostics", "policy", "--kubeconfig", kubeconfig, pod, "4191", "-o", "json")), &answer); err != nil || !answer.Enforced || answer.Server.Labels["name"] != "admin" {
		t.Errorf("as JSON: %+v, %v", answer, err)
	}
}
