package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secretPath = "/api/v1/namespaces/linkerd/secrets/tls"
	configPath = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/config"

	// patience ends a test that waits for what never comes; poll is how often it
	// looks.
	patience = 20 * time.Second
	poll     = 10 * time.Millisecond
	// drain is ample time for one handshake.
	drain = time.Second
)

// mkServer makes a webhook of the given API server.
func mkServer(t *testing.T, api *kubetest.Server) *Server {
	t.Helper()
	core, err := kube.For(api.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	registration, err := kube.For(api.Config(), admissionregistrationv1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { core.Client.CloseIdleConnections(); registration.Client.CloseIdleConnections() })
	return &Server{
		Core: core, Registration: registration, Namespace: "linkerd", Service: "hook", Secret: "tls", Configuration: "config", Mutating: true,
		DrainDelay: time.Millisecond,
		Handle: func(_ context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
			if request.Name == "unanswerable" {
				return nil, errors.New("cannot tell")
			}
			return &admissionv1.AdmissionResponse{Allowed: request.Name == "good"}, nil
		},
	}
}

// start runs s until the test ends and returns its address.
func start(t *testing.T, s *Server) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, address) }()
	var stopped bool
	stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return address, stop
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

func configuration(hooks ...string) *admissionregistrationv1.MutatingWebhookConfiguration {
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	for _, name := range hooks {
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.MutatingWebhook{Name: name})
	}
	return c
}

func bundle(api *kubetest.Server) []byte {
	var secret corev1.Secret
	api.Get(secretPath, &secret)
	return secret.Data["tls.crt"]
}

// trusted tells whether every webhook of the configuration has the bundle.
func trusted(api *kubetest.Server, want []byte) bool {
	var c admissionregistrationv1.MutatingWebhookConfiguration
	if !api.Get(configPath, &c) || len(want) == 0 {
		return false
	}
	for _, hook := range c.Webhooks {
		if !bytes.Equal(hook.ClientConfig.CABundle, want) {
			return false
		}
	}
	return len(c.Webhooks) > 0
}

func TestAWebhookMakesItselfTrustedAndStaysSo(t *testing.T) {
	api := kubetest.New(t)
	s := mkServer(t, api)
	if s.Ready() == nil {
		t.Error("ready before it runs")
	}
	start(t, s)
	eventually(t, "a certificate without a configuration", func() bool {
		return len(bundle(api)) > 0 && s.Ready() != nil && strings.Contains(s.Ready().Error(), "config")
	})
	first := bundle(api)

	api.Put(configPath, configuration("a", "b"))
	eventually(t, "trust in a new configuration", func() bool { return trusted(api, first) && s.Ready() == nil })
	stale := configuration("a")
	stale.Webhooks[0].ClientConfig.CABundle = []byte("of an earlier installation")
	api.Put(configPath, stale)
	eventually(t, "trust in a replaced configuration", func() bool { return trusted(api, first) && s.Ready() == nil })
	api.Delete(configPath)
	eventually(t, "unreadiness without a configuration", func() bool { return s.Ready() != nil })
	api.Put(configPath, configuration("a"))
	eventually(t, "trust in a restored configuration", func() bool { return trusted(api, first) && s.Ready() == nil })

	certificate, key, err := newPair([]string{"hook.linkerd.svc"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	api.Put(secretPath, corev1.Secret{Data: map[string][]byte{"tls.crt": certificate, "tls.key": key}})
	eventually(t, "trust in a replaced certificate", func() bool { return trusted(api, certificate) && s.Ready() == nil })
	api.Put(secretPath, corev1.Secret{Data: map[string][]byte{"tls.crt": certificate, "tls.key": []byte("noise")}})
	api.Delete(secretPath)
	eventually(t, "still trust, the certificate in use being good", func() bool { return trusted(api, certificate) && s.Ready() == nil })
}

func TestReplicasShareOneCertificate(t *testing.T) {
	api := kubetest.New(t)
	api.Put(configPath, configuration("a"))
	a, b := mkServer(t, api), mkServer(t, api)
	start(t, a)
	start(t, b)
	eventually(t, "both ready", func() bool { return a.Ready() == nil && b.Ready() == nil })
	if !bytes.Equal(a.pair.Load().bundle, b.pair.Load().bundle) {
		t.Error("two replicas have two certificates")
	}
}

func TestAnAPIServerThatFailsAtFirstIsAskedAgain(t *testing.T) {
	api := kubetest.New(t)
	api.Put(configPath, configuration("a"))
	failures := map[string]int{}
	api.Fail(func(method, path string) int {
		if method == "WATCH" {
			return 0
		}
		if failures[method+path]++; failures[method+path] < 3 {
			return http.StatusInternalServerError
		}
		return 0
	})
	s := mkServer(t, api)
	start(t, s)
	eventually(t, "readiness after failures", func() bool { return s.Ready() == nil })
}

func TestReviewsAreAnsweredOverATrustedConnection(t *testing.T) {
	api := kubetest.New(t)
	api.Put(configPath, configuration("a"))
	s := mkServer(t, api)
	address, stop := start(t, s)
	eventually(t, "readiness", func() bool { return s.Ready() == nil })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle(api))
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "hook.linkerd.svc"}}}
	defer client.CloseIdleConnections()

	reused := false
	traced := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = reused || info.Reused }})
	post := func(path, name string) (int, *admissionv1.AdmissionResponse) {
		t.Helper()
		text, err := json.Marshal(admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "7", Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(traced, http.MethodPost, "https://"+address+path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.ProtoMajor != 1 {
			t.Errorf("answered in %s", response.Proto)
		}
		var review admissionv1.AdmissionReview
		if body, err := io.ReadAll(response.Body); err != nil {
			t.Fatal(err)
		} else if response.StatusCode == http.StatusOK {
			if err := json.Unmarshal(body, &review); err != nil {
				t.Fatal(err)
			}
			if want := (metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}); review.TypeMeta != want {
				t.Errorf("answered as %v", review.TypeMeta)
			}
		}
		return response.StatusCode, review.Response
	}
	type answer struct {
		Code     int
		Response *admissionv1.AdmissionResponse
	}
	got, want := map[string]answer{}, map[string]answer{
		"good":         {200, &admissionv1.AdmissionResponse{UID: "7", Allowed: true}},
		"bad":          {200, &admissionv1.AdmissionResponse{UID: "7"}},
		"unanswerable": {500, nil},
	}
	for name := range want {
		code, response := post("/", name)
		got[name] = answer{code, response}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if reused {
		t.Error("a connection was used for two calls")
	}
	if code, _ := post("/other", "good"); code != http.StatusNotFound {
		t.Errorf("another path gets %d", code)
	}
	for body, code := range map[string]int{"": 400, "{}": 400, "noise": 400} {
		response, err := client.Post("https://"+address, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != code {
			t.Errorf("%q gets %d, want %d", body, response.StatusCode, code)
		}
	}
	response, err := client.Get("https://" + address)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body.Close(); response.StatusCode != http.StatusNotFound {
		t.Errorf("GET gets %d (A-01)", response.StatusCode)
	}
	client.CloseIdleConnections()
	stop()
	if s.Ready() == nil {
		t.Error("ready after it ended")
	}
}

// Until a Service has noticed that the role is ending, calls still arrive; one
// that were refused would let a pod through without a proxy.
func TestCallsAreAnsweredWhileDraining(t *testing.T) {
	api := kubetest.New(t)
	api.Put(configPath, configuration("a"))
	s := mkServer(t, api)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	s.DrainDelay = drain
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, address) }()
	eventually(t, "readiness", func() bool { return s.Ready() == nil })
	cancel()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Errorf("refused while draining: %v", err)
	} else {
		conn.Close()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("still listening after it ended")
	}
}
