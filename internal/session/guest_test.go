package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/internal/guest/guesttest"
	policyapi "github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/turn"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// patience bounds every wait of these tests.
const patience = 5 * time.Minute

// somebodys is a cluster that stands, and how its owner reaches it.
type somebodys struct {
	t      *testing.T
	ctx    context.Context
	config *rest.Config
	client kubernetes.Interface
	path   string
}

// standing makes a cluster that stands for as long as the test runs.
func standing(t *testing.T) *somebodys {
	t.Helper()
	if testing.Short() {
		t.Skip("makes a cluster")
	}
	Quieten()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	if own := os.Getenv("MESHPROOF_TEST_BIN"); own != "" {
		bin = own
	}
	for _, name := range []string{"meshproof", "meshproof-kube", "meshproof-agent"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Skipf("bin/%s is missing: run make build first", name)
		}
	}
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	provider, err := embedded.New(bin, filepath.Join(home, "state"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	made, err := provider.Create(ctx, cluster.Options{Name: "somebodys"})
	var setup *cluster.SetupError
	if errors.As(err, &setup) && setup.Remedy != "" {
		t.Skip("namespaces are unusable here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := &somebodys{t: t, ctx: ctx, path: made.Kubeconfig()}
	if s.config, err = clientcmd.BuildConfigFromFlags("", s.path); err != nil {
		t.Fatal(err)
	}
	s.config.QPS = -1
	if s.client, err = kubernetes.NewForConfig(s.config); err != nil {
		t.Fatal(err)
	}
	s.ownsRoutes()
	return s
}

// foreign is a CRD that the cluster has before any run: of the Gateway API, which
// the mesh would install as well.
var foreign = policyapi.CRDName(policyapi.GatewayHTTPRoutes)

// ownsRoutes installs that CRD as somebody else would have.
func (s *somebodys) ownsRoutes() {
	s.t.Helper()
	for _, crd := range policyapi.CRDs() {
		if !bytes.Contains(crd, []byte("  name: "+foreign+"\n")) {
			continue
		}
		if err := engine.Apply(s.ctx, s.config, bytes.ReplaceAll(crd, []byte("app.kubernetes.io/part-of: meshproof"), []byte(`somebodys: "own"`))); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	s.t.Fatal("there is no such CRD: " + foreign)
}

// scenario is small and needs everything that a run does: workloads, clients,
// policies, a namespace of a fixed name, and settings of its own.
const scenario = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: %s}
spec:
  summary: A Server denies
  serial: %v
  %s
  workloads:
    - {name: app, kind: echo}
  clients:
    - {name: unmeshed, kind: unmeshed, shared: true}
  steps:
    %s
    - name: a Server without authorizations
      actions:
        - apply:
            - apiVersion: policy.linkerd.io/v1beta1
              kind: Server
              metadata: {name: app}
              spec: {podSelector: {matchLabels: {app: app}}, port: 8080}
      claims:
        - name: denies
          call: {client: unmeshed, target: "app:http", protocol: http1, expect: denied}
`

// plan makes a plan of such scenarios.
func plan(t *testing.T, texts ...string) *scenarios.Plan {
	t.Helper()
	var paths []string
	for i, text := range texts {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("scenario-%d.yaml", i))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	set, err := scenarios.Load(paths...)
	if err != nil {
		t.Fatal(err)
	}
	return scenarios.NewPlan(set, func(*scenarios.PlannedClaim) bool { return true })
}

func quiet(name, namespace string) string {
	if namespace != "" {
		namespace = "namespace: " + namespace
	}
	return fmt.Sprintf(scenario, name, false, namespace, "")
}

func installing(name string) string {
	return fmt.Sprintf(scenario, name, true, "", "- {name: other settings, actions: [{install: {defaultInboundPolicy: all-authenticated}}]}")
}

// run is a run against the cluster by whoever has the kubeconfig; what it said
// comes with it.
func (s *somebodys) run(path string, plan *scenarios.Plan) (*result.Run, string) {
	return s.runIn("", path, plan)
}

// runIn is a run that wants the mesh to speak a dialect.
func (s *somebodys) runIn(dialect, path string, plan *scenarios.Plan) (*result.Run, string) {
	provider, err := kubeconfig.New(kubeconfig.Options{Kubeconfig: path})
	if err != nil {
		s.t.Error(err)
		return nil, ""
	}
	var mu sync.Mutex
	var said strings.Builder
	out := Run(s.ctx, plan, Options{Provider: provider, Mesh: mesh.Options{Dialect: dialect}, Observe: func(e engine.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == engine.Waiting {
			fmt.Fprintln(&said, e.Text)
		}
	}})
	mu.Lock()
	defer mu.Unlock()
	return out, said.String()
}

func (s *somebodys) inventory() map[string]string {
	s.t.Helper()
	all, err := guesttest.Inventory(s.ctx, s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// grant gives somebody exactly these rights and returns his kubeconfig.
func (s *somebodys) grant(name string, rules []rbacv1.PolicyRule) string {
	s.t.Helper()
	const namespace = "kube-system"
	meta := metav1.ObjectMeta{Name: name}
	_, err := s.client.CoreV1().ServiceAccounts(namespace).Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	if err == nil {
		_, err = s.client.RbacV1().ClusterRoles().Create(s.ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = s.client.RbacV1().ClusterRoleBindings().Create(s.ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: namespace}}}, metav1.CreateOptions{})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := s.client.CoreV1().ServiceAccounts(namespace).CreateToken(s.ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	config.AuthInfos = map[string]*api.AuthInfo{name: {Token: token.Status.Token}}
	config.Contexts[config.CurrentContext].AuthInfo = name
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// without takes one verb on a resource away.
func without(rules []rbacv1.PolicyRule, verb, resource string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, rule := range rules {
		rule = *rule.DeepCopy()
		for _, one := range rule.Resources {
			if one == resource {
				rule.Verbs = slices.DeleteFunc(rule.Verbs, func(v string) bool { return v == verb })
			}
		}
		if len(rule.Verbs) > 0 {
			out = append(out, rule)
		}
	}
	return out
}

func TestARunOnSomebodysCluster(t *testing.T) {
	s := standing(t)
	t.Run("leaves nothing behind, with exactly the rights that it asks for", func(t *testing.T) {
		path := s.grant("runner", guest.Rules(true))
		before := s.inventory()
		for range 2 {
			out, said := s.run(path, plan(t, quiet("quiet", ""), quiet("fixed", "emojivoto"), installing("loud")))
			if out.Outcome != result.Passed {
				t.Fatalf("%s: %s\n%s", out.Outcome, out.Reason, said)
			}
			if diff := cmp.Diff(before, s.inventory()); diff != "" {
				t.Errorf("-before +after\n%s\n%s", diff, said)
			}
		}
	})
	t.Run("names in one line the right that it lacks, and leaves nothing behind", func(t *testing.T) {
		path := s.grant("narrow", without(without(guest.Rules(true), "create", "namespaces"), "patch", "clusterroles"))
		before := s.inventory()
		out, _ := s.run(path, plan(t, quiet("quiet", "")))
		want := "RBAC is too narrow: cannot create namespaces, cannot patch clusterroles.rbac.authorization.k8s.io"
		if out.ExitCode != result.ExitSetup || out.Reason != want {
			t.Errorf("exit code %d: %s\nwant %s", out.ExitCode, out.Reason, want)
		}
		if diff := cmp.Diff(before, s.inventory()); diff != "" {
			t.Errorf("-before +after\n%s", diff)
		}
	})
	t.Run("leaves a namespace alone whose name it needs", func(t *testing.T) {
		if _, err := s.client.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "emojivoto", Labels: map[string]string{"mine": "yes"}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.client.CoreV1().ConfigMaps("emojivoto").Create(s.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "dear"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		before := s.settled("emojivoto")
		out, said := s.run(s.path, plan(t, quiet("fixed", "emojivoto"), quiet("other", "")))
		want := "it needs a namespace called emojivoto, and there is one that meshproof did not make"
		if fixed := out.Scenarios[0]; fixed.Outcome != result.Skipped || fixed.Reason != want || out.Scenarios[1].Outcome != result.Passed {
			t.Errorf("%s: %s: %s\n%s", fixed.Name, fixed.Outcome, fixed.Reason, said)
		}
		if diff := cmp.Diff(before, s.inventory()); diff != "" {
			t.Errorf("-before +after\n%s", diff)
		}
	})
	t.Run("has it beside other runs, and to itself where it must", func(t *testing.T) {
		before := s.inventory()
		var runs sync.WaitGroup
		for _, p := range []*scenarios.Plan{plan(t, installing("loud")), plan(t, quiet("quiet", "")), plan(t, quiet("fixed", "one-for-both")), plan(t, quiet("fixed", "one-for-both"))} {
			runs.Go(func() {
				if out, said := s.run(s.path, p); out.Outcome != result.Passed {
					t.Errorf("%s: %s: %s\n%s", out.Scenarios[0].Name, out.Outcome, out.Reason, said)
				}
			})
		}
		runs.Wait()
		if diff := cmp.Diff(before, s.inventory()); diff != "" {
			t.Errorf("-before +after\n%s", diff)
		}
	})
	t.Run("leaves a mesh that stands as it is", s.leavesMesh)
	t.Run("is cleaned up after, once nobody renews its lease", s.cleanUp)
}

// settled is the inventory once a new namespace has what every one gets.
func (s *somebodys) settled(namespace string) map[string]string {
	s.t.Helper()
	for {
		all := s.inventory()
		if all["serviceaccounts "+namespace+"/default"] != "" && all["configmaps "+namespace+"/kube-root-ca.crt"] != "" {
			return all
		}
		if s.ctx.Err() != nil {
			s.t.Fatal(s.ctx.Err())
		}
	}
}

// atRest is the inventory once the cluster has caught up with what was installed:
// endpoints follow pods a moment after these are ready.
func (s *somebodys) atRest() map[string]string {
	s.t.Helper()
	for last := s.inventory(); ; {
		now := s.inventory()
		if cmp.Equal(last, now) {
			return now
		}
		if last = now; s.ctx.Err() != nil {
			s.t.Fatal(s.ctx.Err())
		}
	}
}

// leavesMesh leaves the cluster without a mesh.
func (s *somebodys) leavesMesh(t *testing.T) {
	manifests, err := mesh.Install(mesh.Options{DefaultInboundPolicy: "cluster-authenticated", SkipCRDs: []string{foreign}})
	if err == nil {
		err = engine.Apply(s.ctx, s.config, manifests)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := (&session{meshStands: true}).install(s.ctx, s.config); err != nil { // waits until it is ready
		t.Fatal(err)
	}
	want, ok, err := guest.StandingMesh(s.ctx, s.config)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	before := s.atRest()
	out, said := s.run(s.grant("user", guest.Rules(false)), plan(t, quiet("quiet", "")))
	if out.Outcome != result.Passed || out.Mesh.DefaultPolicy != "cluster-authenticated" || strings.Contains(said, "applying") {
		t.Errorf("%s: %s (default policy %s)\n%s", out.Outcome, out.Reason, out.Mesh.DefaultPolicy, said)
	}
	after := s.inventory()
	for _, granted := range []string{"serviceaccounts kube-system/user", "clusterroles.rbac.authorization.k8s.io /user", "clusterrolebindings.rbac.authorization.k8s.io /user"} {
		delete(after, granted)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
	// It speaks one dialect, and cannot be judged by the other.
	if out, said = s.runIn("linkerd", s.path, plan(t, quiet("quiet", ""))); out.ExitCode != result.ExitSetup || !strings.Contains(out.Reason, "the mesh in the cluster speaks documented") {
		t.Errorf("exit code %d: %s\n%s", out.ExitCode, out.Reason, said)
	}
	// Other settings for a while: the settings afterwards are those before.
	if out, said = s.run(s.path, plan(t, installing("loud"))); out.Outcome != result.Passed {
		t.Errorf("%s: %s\n%s", out.Outcome, out.Reason, said)
	}
	got, _, err := guest.StandingMesh(s.ctx, s.config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the settings: -before +after\n%s", diff)
	}
	if mark, err := guest.ReadMark(s.ctx, s.client); err != nil || mark != (guest.Mark{}) {
		t.Errorf("the mesh's namespace is marked %+v (%v)", mark, err)
	}
	s.killed(t, *want)
	if err := guest.Uninstall(s.ctx, s.config); err != nil {
		t.Error(err)
	}
}

// killed is a run that is killed while it has other settings installed.
func (s *somebodys) killed(t *testing.T, before values.Values) {
	dead, err := turn.Join(s.ctx, s.client, "20261122-000000-kill", "a test", nil)
	if err == nil {
		err = dead.Alone(s.ctx)
	}
	if err == nil {
		err = guest.KeepSettings(s.ctx, s.client, &before)
	}
	other, printErr := mesh.Install(mesh.Options{DefaultInboundPolicy: "deny", SkipCRDs: []string{foreign}})
	if err == nil {
		err = errors.Join(printErr, engine.Apply(s.ctx, s.config, other))
	}
	if err != nil {
		t.Fatal(err)
	}
	dead.Abandon()
	removed, err := guest.Cleanup(s.ctx, s.config, "20261122-000000-tidy", "a test", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a killed run: other settings of the mesh"}, removed); diff != "" {
		t.Errorf("-want +removed\n%s", diff)
	}
	got, _, err := guest.StandingMesh(s.ctx, s.config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&before, got); diff != "" {
		t.Errorf("the settings: -before +after\n%s", diff)
	}
	if mark, err := guest.ReadMark(s.ctx, s.client); err != nil || mark != (guest.Mark{}) {
		t.Errorf("the mesh's namespace is marked %+v (%v)", mark, err)
	}
}

func (s *somebodys) cleanUp(t *testing.T) {
	before := s.inventory()
	dead, err := turn.Join(s.ctx, s.client, "20261122-000000-dead", "a test", nil)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := turn.Join(s.ctx, s.client, "20261122-000000-live", "a test", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{"dead", "live"} {
		labels := map[string]string{guest.PartOf: guest.Tool, guest.RunLabel: "20261122-000000-" + run}
		if _, err := s.client.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mp-" + run + "-clients", Labels: labels}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	dead.Abandon()
	var said []string
	removed, err := guest.Cleanup(s.ctx, s.config, "20261122-000000-tidy", "a test", func(text string) { said = append(said, text) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"run 20261122-000000-dead: namespace mp-dead-clients"}, removed); diff != "" {
		t.Errorf("-want +removed\n%s\nsaid: %q", diff, said)
	}
	all := s.inventory()
	for name, want := range map[string]bool{"namespaces /mp-dead-clients": false, "namespaces /mp-live-clients": true, "namespaces /linkerd": true,
		"leases.coordination.k8s.io linkerd/meshproof-run-20261122-000000-dead": false, "leases.coordination.k8s.io linkerd/meshproof-run-20261122-000000-live": true} {
		if got := all[name] != ""; got != want {
			t.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
	if err := alive.Leave(s.ctx); err != nil {
		t.Fatal(err)
	}
	if removed, err = guest.Cleanup(s.ctx, s.config, "20261122-000000-tidy", "a test", func(text string) { said = append(said, text) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"run 20261122-000000-live: namespace mp-live-clients", "run 20261122-000000-dead: the mesh that it installed"}, removed); diff != "" {
		t.Errorf("-want +removed\n%s\nsaid: %q", diff, said)
	}
	if diff := cmp.Diff(before, s.inventory()); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}
