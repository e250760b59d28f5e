package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
)

const (
	// headerTimeout and requestTimeout bound a call; the API server itself gives
	// up after the configuration's timeoutSeconds, at most 30.
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second
	// largestReview is more than etcd would store.
	largestReview = 8 << 20

	// DrainDelay is how long calls are still taken after the role was told to
	// end: until then a Service may send some here, and with failure policy
	// Ignore each one that is refused would be an object nobody looked at.
	DrainDelay = 3 * time.Second
	// closeTimeout is what running calls get after that.
	closeTimeout = 5 * time.Second
)

// Handler answers one request. An error means that no answer could be found; the
// API server then applies the failure policy.
type Handler func(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

// Server is one webhook; all fields are set before Run.
type Server struct {
	// Core is a client of v1, Registration one of admissionregistration.k8s.io/v1.
	Core, Registration rest.Interface
	// Namespace, Service and Secret are the role's own.
	Namespace, Service, Secret string
	// Configuration names the object to write the CA bundle into; Mutating tells
	// its kind.
	Configuration string
	Mutating      bool
	// Handle answers calls.
	Handle Handler
	// DrainDelay is DrainDelay when zero.
	DrainDelay time.Duration

	pair atomic.Pointer[servingPair]
	// trusted is the bundle last seen in the configuration.
	trusted   atomic.Pointer[[]byte]
	listening atomic.Bool
}

// Ready is nil once calls can succeed: the certificate is there, the API server
// has been told to trust it, and somebody listens.
func (s *Server) Ready() error {
	pair, trusted := s.pair.Load(), s.trusted.Load()
	switch {
	case pair == nil:
		return errors.New("no serving certificate")
	case !s.listening.Load():
		return errors.New("not listening")
	case trusted == nil || !bytes.Equal(*trusted, pair.bundle):
		return fmt.Errorf("the CA bundle is not in webhook configuration %s", s.Configuration)
	}
	return nil
}

// Run serves on the address until ctx ends and the last calls are answered.
func (s *Server) Run(ctx context.Context, address string) error {
	if err := kube.Retry(ctx, "load the serving certificate", func(ctx context.Context) error {
		secret, err := s.load(ctx)
		if err != nil {
			return err
		}
		return s.use(secret)
	}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	group, watching := errgroup.WithContext(ctx)
	group.Go(func() error { s.keep(watching); return nil })
	group.Go(func() error { return s.serve(watching, address) })
	return group.Wait()
}

// keep follows the Secret and the configuration until ctx ends.
func (s *Server) keep(ctx context.Context) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		kube.Watch(ctx, s.Core, "secrets", kube.Scope{Namespace: s.Namespace, Fields: "metadata.name=" + s.Secret},
			kube.Latest[*corev1.Secret](func(secret *corev1.Secret) {
				if secret == nil || bytes.Equal(secret.Data[corev1.TLSCertKey], s.pair.Load().bundle) {
					return
				}
				if err := s.use(secret); err != nil {
					slog.Error("the replaced serving certificate is not used", "error", err)
					return
				}
				slog.Info("the serving certificate was replaced", "secret", s.Secret)
				s.tell(ctx)
			}), nil)
		return nil
	})
	scope := kube.Scope{Fields: "metadata.name=" + s.Configuration}
	group.Go(func() error {
		if s.Mutating {
			kube.Watch(ctx, s.Registration, s.resource(), scope,
				kube.Latest[*admissionregistrationv1.MutatingWebhookConfiguration](func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
					var clients []client
					if c != nil {
						for _, hook := range c.Webhooks {
							clients = append(clients, client{hook.Name, hook.ClientConfig.CABundle})
						}
					}
					s.compare(ctx, clients)
				}), nil)
			return nil
		}
		kube.Watch(ctx, s.Registration, s.resource(), scope,
			kube.Latest[*admissionregistrationv1.ValidatingWebhookConfiguration](func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				var clients []client
				if c != nil {
					for _, hook := range c.Webhooks {
						clients = append(clients, client{hook.Name, hook.ClientConfig.CABundle})
					}
				}
				s.compare(ctx, clients)
			}), nil)
		return nil
	})
	group.Wait()
}

// client is a webhook of the configuration and the bundle it has.
type client struct {
	name   string
	bundle []byte
}

func (s *Server) resource() string {
	if s.Mutating {
		return "mutatingwebhookconfigurations"
	}
	return "validatingwebhookconfigurations"
}

// compare writes the bundle unless all webhooks of the configuration have it. No
// configuration means that nobody calls: installation is not finished.
func (s *Server) compare(ctx context.Context, clients []client) {
	bundle := s.pair.Load().bundle
	if len(clients) == 0 {
		s.trusted.Store(nil)
		return
	}
	for _, c := range clients {
		if !bytes.Equal(c.bundle, bundle) {
			s.trusted.Store(nil)
			s.write(ctx, clients)
			return
		}
	}
	s.trusted.Store(&bundle)
}

// tell writes a replaced bundle; what the configuration's webhooks are called is
// asked for, as its watch has nothing to report.
func (s *Server) tell(ctx context.Context) {
	var found struct{ Webhooks []struct{ Name string } }
	text, err := s.Registration.Get().Resource(s.resource()).Name(s.Configuration).
		SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil {
		slog.Error("the webhook configuration was not read", "name", s.Configuration, "error", err)
		return
	}
	var clients []client
	for _, hook := range found.Webhooks {
		clients = append(clients, client{name: hook.Name})
	}
	s.write(ctx, clients)
}

// write puts the bundle into all webhooks; the watch sees it come back.
func (s *Server) write(ctx context.Context, clients []client) {
	type hook struct {
		Name         string `json:"name"`
		ClientConfig struct {
			CABundle []byte `json:"caBundle"`
		} `json:"clientConfig"`
	}
	var patch struct {
		Webhooks []hook `json:"webhooks"`
	}
	for _, c := range clients {
		h := hook{Name: c.name}
		h.ClientConfig.CABundle = s.pair.Load().bundle
		patch.Webhooks = append(patch.Webhooks, h)
	}
	text, err := json.Marshal(patch)
	if err == nil {
		err = kube.Retry(ctx, "write the CA bundle into "+s.Configuration, func(ctx context.Context) error {
			err := s.Registration.Patch(types.StrategicMergePatchType).Resource(s.resource()).Name(s.Configuration).
				VersionedParams(&metav1.PatchOptions{FieldManager: "meshproof"}, metav1.ParameterCodec).Body(text).Do(ctx).Error()
			if apierrors.IsNotFound(err) {
				return nil // the watch says when there is one again
			}
			return err
		})
	}
	if err != nil {
		slog.Error("the CA bundle was not written", "name", s.Configuration, "error", err)
		return
	}
	slog.Info("the CA bundle was written", "name", s.Configuration)
}

func (s *Server) serve(ctx context.Context, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for admission reviews: %w", err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(s.review), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.Load().certificate, nil },
		},
		// One connection a call, or calls would stay with a replica that is ending,
		// and with its configuration, long after a newer one has taken over. For
		// the same reason no HTTP/2.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		// Port scans and probes without TLS are not worth a line each.
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false)
	s.listening.Store(true)
	slog.Info("serving", "address", listener.Addr().String())
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	select {
	case err = <-served:
		return fmt.Errorf("serve admission reviews on %s: %w", address, err)
	case <-ctx.Done():
	}
	delay := s.DrainDelay
	if delay == 0 {
		delay = DrainDelay
	}
	drain := time.NewTimer(delay)
	defer drain.Stop()
	select {
	case err = <-served:
		return fmt.Errorf("serve admission reviews on %s: %w", address, err)
	case <-drain.C:
	}
	s.listening.Store(false)
	closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if server.Shutdown(closing) != nil {
		server.Close()
	}
	<-served
	return nil
}

// review is the HTTP side of Handle.
func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestReview))
	if err != nil {
		http.Error(w, "read the review: "+err.Error(), http.StatusBadRequest)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(text, &review); err != nil || review.Request == nil {
		http.Error(w, fmt.Sprintf("not an AdmissionReview with a request: %v", err), http.StatusBadRequest)
		return
	}
	response, err := s.Handle(r.Context(), review.Request)
	if err != nil {
		slog.Error("a review was not answered", "error", err, "namespace", review.Request.Namespace, "name", review.Request.Name)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response.UID = review.Request.UID
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}, Response: response,
	})
}
