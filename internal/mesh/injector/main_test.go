package injector

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/mesh/kube/kubetest"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	rootsPath     = "/api/v1/namespaces/linkerd/configmaps/" + kube.TrustRootsName
	secretPath    = "/api/v1/namespaces/linkerd/secrets/" + secretName
	configPath    = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + configurationName
	emojivotoPath = "/api/v1/namespaces/emojivoto"
	eventsPath    = emojivotoPath + "/events"

	// patience ends a test that waits for what never comes; poll is how often it
	// looks.
	patience = 20 * time.Second
	poll     = 10 * time.Millisecond
)

// startRole runs the role until the test ends and returns its two addresses.
func startRole(t *testing.T, server *kubetest.Server) (address, admin string) {
	t.Helper()
	dir := t.TempDir()
	config, err := values.Default().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	address, admin = freeAddress(t), freeAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Main(ctx, []string{"--kubeconfig", write("kubeconfig", server.Kubeconfig()), "--config", write("values", config), "--listen", address, "--admin", admin})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return address, admin
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func readiness(admin string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + admin + "/ready")
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	var text bytes.Buffer
	text.ReadFrom(response.Body)
	return text.String()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what + " never came true")
		}
	}
}

// Each thing that is missing for the first pod to get a proxy keeps the role
// from being ready, and is named.
func TestTheRoleIsReadyOnceAPodWouldBeInjected(t *testing.T) {
	server := kubetest.New(t)
	address, admin := startRole(t, server)
	eventually(t, "waiting for both", func() bool {
		text := readiness(admin)
		return strings.Contains(text, "trust anchors: ConfigMap linkerd/linkerd-identity-trust-roots is not there yet") &&
			strings.Contains(text, "webhook: the CA bundle is not in webhook configuration linkerd-proxy-injector-webhook-config")
	})
	server.Put(configPath, &admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "a"}}})
	eventually(t, "waiting for anchors only", func() bool {
		text := readiness(admin)
		return strings.Contains(text, "trust anchors") && !strings.Contains(text, "webhook")
	})
	server.Put(rootsPath, &corev1.ConfigMap{Data: map[string]string{kube.TrustRootsKey: "anchors"}})
	eventually(t, "readiness", func() bool { return readiness(admin) == "ready\n" })

	server.Put(emojivotoPath, mkNamespace(with(InjectAnnotation, "enabled", api.DefaultPolicyAnnotation, "allow")))
	response := review(t, server, address, mkPod(nil))
	pod := apply(t, response.Patch, raw(t, mkPod(nil)))
	if got := proxyEnv(t, pod, "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"); got != "anchors" {
		t.Errorf("the proxy trusts %q", got)
	}
	eventually(t, "the event", func() bool { return len(server.Paths(eventsPath)) == 1 })
	var event corev1.Event
	server.Get(server.Paths(eventsPath)[0], &event)
	want := corev1.Event{
		InvolvedObject: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "emojivoto", Name: "voting-5f5b555dff", UID: "1"},
		Reason:         ReasonInvalidPolicy, Type: corev1.EventTypeWarning,
		Message: `annotation config.linkerd.io/default-inbound-policy of the namespace is "allow", which is no policy; the cluster's default all-unauthenticated holds`,
	}
	got := corev1.Event{InvolvedObject: event.InvolvedObject, Reason: event.Reason, Type: event.Type, Message: event.Message}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	server.Put(rootsPath, &corev1.ConfigMap{Data: map[string]string{kube.TrustRootsKey: "anchors and more"}})
	eventually(t, "the rotated anchors", func() bool {
		pod := apply(t, review(t, server, address, mkPod(nil)).Patch, raw(t, mkPod(nil)))
		return proxyEnv(t, pod, "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS") == "anchors and more"
	})
	// Any number of pods of one ReplicaSet, and it is told once.
	if events := server.Paths(eventsPath); len(events) != 1 {
		t.Errorf("events %v", events)
	}
}

// A bare pod is told itself, once it exists and has an id.
func TestABarePodIsToldItself(t *testing.T) {
	server := kubetest.New(t)
	core, err := kube.For(server.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(core.Client.CloseIdleConnections)
	r := newRecorder(core)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	pod := mkPod(nil)
	pod.OwnerReferences, pod.Name = nil, "bare"
	unnamed := mkPod(nil)
	unnamed.OwnerReferences = nil
	r.notify(newSubject("emojivoto", unnamed), []Note{{"Lost", "nobody could be told"}})
	r.notify(newSubject("emojivoto", pod), []Note{{"Told", "something"}})
	eventually(t, "a look for the pod", func() bool { return len(server.Requests()) > 1 })
	pod.UID = "7"
	server.Put(emojivotoPath+"/pods/bare", pod)
	eventually(t, "the event", func() bool { return len(server.Paths(eventsPath)) == 1 })
	var event corev1.Event
	server.Get(server.Paths(eventsPath)[0], &event)
	if diff := cmp.Diff(corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "emojivoto", Name: "bare", UID: "7"}, event.InvolvedObject); diff != "" || event.Reason != "Told" {
		t.Errorf("%s -want +got\n%s", event.Reason, diff)
	}
}

func TestTheRoleNeedsAConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "values")
	if err := Main(t.Context(), []string{"--config", path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("defaultInboundPolicy: allow"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Main(t.Context(), []string{"--config", path}); err == nil || !strings.Contains(err.Error(), `"allow"`) {
		t.Errorf("got %v", err)
	}
}

// review calls the webhook as the API server does.
func review(t *testing.T, server *kubetest.Server, address string, pod *corev1.Pod) *admissionv1.AdmissionResponse {
	t.Helper()
	var secret corev1.Secret
	server.Get(secretPath, &secret)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["tls.crt"])
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "linkerd-proxy-injector.linkerd.svc"}}}
	defer client.CloseIdleConnections()
	text, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: mkRequest(t, raw(t, pod))})
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Post("https://"+address+"/?timeout=10s", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Response
}
