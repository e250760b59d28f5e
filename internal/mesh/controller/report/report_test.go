package report

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ns = "emojivoto"

// recorded is a Recorder that remembers, and fails for messages that contain
// what refuse says.
type recorded struct {
	mu      sync.Mutex
	refuse  string
	entries []string
}

func (r *recorded) Record(_ context.Context, f index.Finding) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, string(f.Reason)+" "+f.Object.Kind+"/"+f.Object.Name)
	if r.refuse != "" && strings.Contains(f.Message, r.refuse) {
		return errors.New("refused by the test")
	}
	return nil
}

func (r *recorded) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.entries
	r.entries = nil
	return taken
}

// naming makes an authorization that names a Server.
func naming(server string) index.AuthorizationSpec {
	return index.Config{Dialect: api.Documented()}.NewAuthorizationSpec(&api.ServerAuthorization{
		Spec: api.ServerAuthorizationSpec{Server: api.ServerReference{Name: server}, Client: api.Client{Unauthenticated: true}},
	})
}

func TestFindingsAreToldOnceAndOnlyWhenTheyLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := index.New(index.Config{Dialect: api.Documented()})
		recorder := &recorded{refuse: `"failing"`}
		registry := prometheus.NewRegistry()
		r := New(x, recorder, registry)
		x.OnChange(r.Note)
		synced := make(chan struct{})
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx, synced) })
		defer running.Wait()
		defer stop()

		step := func(when string, change func(tx *index.Tx), want ...string) {
			t.Helper()
			x.Update(change)
			time.Sleep(2 * settling)
			synctest.Wait()
			if diff := cmp.Diff(want, recorder.take()); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
		}
		step("before everything is known", func(tx *index.Tx) { tx.SetAuthorization(ns, "a", naming("web")) })
		close(synced)
		step("then", func(tx *index.Tx) { tx.SetAuthorization(ns, "b", naming("failing")) },
			"NoSuchServer ServerAuthorization/a", "NoSuchServer ServerAuthorization/b")
		step("another object changes", func(tx *index.Tx) { tx.SetBystander(ns, "pod", nil) })
		step("the text changes", func(tx *index.Tx) { tx.SetAuthorization(ns, "a", naming("other")) }, "NoSuchServer ServerAuthorization/a")

		x.Update(func(tx *index.Tx) { tx.SetAuthorization(ns, "c", naming("late")) })
		step("what is put right at once is not told", func(tx *index.Tx) { tx.DeleteAuthorization(ns, "c") })

		want := `policy_events_total{reason="NoSuchServer",result="failed"} 1
policy_events_total{reason="NoSuchServer",result="written"} 2
policy_findings{kind="ServerAuthorization",name="a",namespace="emojivoto",reason="NoSuchServer"} 1
policy_findings{kind="ServerAuthorization",name="b",namespace="emojivoto",reason="NoSuchServer"} 1
`
		if diff := cmp.Diff(want, gathered(t, registry)); diff != "" {
			t.Errorf("metrics: -want +got\n%s", diff)
		}
		step("put right", func(tx *index.Tx) { tx.DeleteAuthorization(ns, "b") })
		if n := strings.Count(gathered(t, registry), "policy_findings{"); n != 1 {
			t.Errorf("%d findings stand", n)
		}
		step("wrong again", func(tx *index.Tx) { tx.SetAuthorization(ns, "b", naming("web")) }, "NoSuchServer ServerAuthorization/b")
	})
}

// gathered is what a scraper would read, without comments.
func gathered(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, family := range families {
		var text strings.Builder
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			if !strings.HasPrefix(line, "#") {
				all.WriteString(line)
			}
		}
	}
	return all.String()
}

func TestEventsAreWrittenOnTheirObjectOnce(t *testing.T) {
	stub := apistub.New(t)
	core, err := kube.For(stub.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	events := Events{Core: core, Now: func() time.Time { return at }}
	for _, finding := range []index.Finding{
		{Object: index.Object{Kind: "Server", Namespace: ns, Name: "web", UID: "1"}, Reason: index.NoProxy, Message: "text"},
		{Object: index.Object{Kind: "Server", Namespace: ns, Name: "web", UID: "1"}, Reason: index.NoProxy, Message: "text"},
		{Object: index.Object{Kind: "ServerAuthorization", Namespace: ns, Name: "web", UID: "2"}, Reason: index.NoSuchServer, Message: "text"},
		{Object: index.Object{Kind: string(index.GatewayHTTPRoute), Namespace: ns, Name: "web", UID: "4"}, Reason: index.RouteIgnored, Message: "text"},
		{Object: index.Object{Kind: "HTTPRoute", Namespace: ns, Name: "web", UID: "5"}, Reason: index.FilterIgnored, Message: "text"},
		{Object: index.Object{Kind: "Namespace", Name: ns, UID: "3"}, Reason: index.SettingIgnored, Message: "text"},
	} {
		if err := events.Record(context.Background(), finding); err != nil {
			t.Error(err)
		}
	}
	got := map[string]corev1.ObjectReference{}
	for _, object := range stub.Objects("/api/v1/events") {
		involved := object["involvedObject"].(map[string]any)
		text := func(key string) string { s, _ := involved[key].(string); return s }
		got[object["type"].(string)+" "+object["reason"].(string)+" in "+object["metadata"].(map[string]any)["namespace"].(string)] = corev1.ObjectReference{
			APIVersion: text("apiVersion"), Kind: text("kind"), Namespace: text("namespace"), Name: text("name"),
		}
	}
	want := map[string]corev1.ObjectReference{
		"Warning NoProxy in emojivoto":       {APIVersion: "policy.linkerd.io/v1beta3", Kind: "Server", Namespace: ns, Name: "web"},
		"Normal NoSuchServer in emojivoto":   {APIVersion: "policy.linkerd.io/v1beta1", Kind: "ServerAuthorization", Namespace: ns, Name: "web"},
		"Warning RouteIgnored in emojivoto":  {APIVersion: "gateway.networking.k8s.io/v1", Kind: "HTTPRoute", Namespace: ns, Name: "web"},
		"Warning FilterIgnored in emojivoto": {APIVersion: "policy.linkerd.io/v1beta3", Kind: "HTTPRoute", Namespace: ns, Name: "web"},
		"Warning SettingIgnored in default":  {APIVersion: "v1", Kind: "Namespace", Name: ns},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	renewed := 0
	for _, write := range stub.Writes() {
		if strings.HasPrefix(write, "PATCH /api/v1/namespaces/"+ns+"/events/web.") {
			renewed++
		}
	}
	if renewed != 1 {
		t.Errorf("renewed %d times: %v", renewed, stub.Writes())
	}
}

// Every kind that findings are about can be referred to.
func TestEveryKindHasItsVersion(t *testing.T) {
	kinds := []string{
		"Pod", api.NamespaceKind, api.ServerKind, api.ServerAuthorizationKind, api.AuthorizationPolicyKind, api.MeshTLSAuthenticationKind,
		api.NetworkAuthenticationKind, api.HTTPLocalRateLimitPolicyKind,
	}
	for _, kind := range index.RouteKinds() {
		kinds = append(kinds, string(kind))
	}
	for _, kind := range kinds {
		if apiVersions[kind] == "" {
			t.Errorf("%s has none", kind)
		}
	}
	if len(kinds) != len(apiVersions) {
		t.Errorf("%d kinds, %d versions", len(kinds), len(apiVersions))
	}
}

func TestAFailureToWriteNamesTheObject(t *testing.T) {
	stub := apistub.New(t)
	core, err := kube.For(stub.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = Events{Core: core}.Record(ctx, index.Finding{Object: index.Object{Kind: "Server", Namespace: ns, Name: "web"}, Reason: index.NoProxy})
	if err == nil || !strings.Contains(err.Error(), "write event NoProxy on Server emojivoto/web: ") || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
