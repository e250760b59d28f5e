package authz

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	// ListenAddr is where the scraper answers, on the pod's loopback only: it
	// is reached by port-forward.
	ListenAddr = "127.0.0.1:9995"
	// DefaultWindow is the window of the table when none is asked for (V-02).
	DefaultWindow = time.Minute
	// MinWindow is the shortest window that can be asked for (V-02).
	MinWindow = 15 * time.Second
	// MaxWindow is how far back the scraper remembers.
	MaxWindow = 10 * time.Minute
	// defaultInterval is the time between two scrapes of a pod.
	defaultInterval = 2 * time.Second
	// scrapeTimeout bounds one scrape; a proxy answers in milliseconds.
	scrapeTimeout = 2 * time.Second
	// maxExposition bounds what is read from one pod.
	maxExposition = 16 << 20
	// shutdownTimeout bounds how long open answers may take at the end.
	shutdownTimeout = 2 * time.Second

	adminPort   = "4191"
	meshedLabel = "linkerd.io/control-plane-ns"
)

// Main is the role `scraper`. It answers on ListenAddr:
//
//	GET /authz?pods=NS/POD,NS/POD&window=1m  -> Answer as JSON; 400 on bad input
//	GET /ready                               -> 200 once the pods are known
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("scraper", flag.ContinueOnError)
	interval := flags.Duration("interval", defaultInterval, "time between two scrapes of a pod")
	readyAddr := flags.String("ready-addr", ":9994", "where /ready answers for the kubelet")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	pods, err := watchPods()
	if err != nil {
		return err
	}
	s := &scraper{store: NewStore(MaxWindow), pods: pods, interval: *interval, log: log, client: &http.Client{Timeout: scrapeTimeout}}

	// The first of the three to fail stops the other two.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wait sync.WaitGroup
	errs := make(chan error, 3)
	start := func(f func(context.Context) error) {
		wait.Go(func() { errs <- f(ctx); stop() })
	}
	start(func(ctx context.Context) error { pods.Run(ctx.Done()); return nil })
	start(func(ctx context.Context) error { s.scrapeAll(ctx); return nil })
	start(func(ctx context.Context) error { return serve(ctx, s.handler(), ListenAddr, *readyAddr) })
	wait.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

type scraper struct {
	store    *Store
	pods     cache.SharedInformer
	interval time.Duration
	client   *http.Client
	log      *slog.Logger
}

// target is a pod that can be scraped and where its metrics are.
type target struct{ pod, url string }

func (s *scraper) targets() []target {
	var targets []target
	for _, object := range s.pods.GetStore().List() {
		pod := object.(*corev1.Pod)
		if pod.Status.PodIP != "" && pod.Status.Phase == corev1.PodRunning {
			targets = append(targets, target{pod.Namespace + "/" + pod.Name, "http://" + net.JoinHostPort(pod.Status.PodIP, adminPort) + "/metrics"})
		}
	}
	return targets
}

// scrapeAll reads every pod once per interval until ctx ends. A slow pod
// delays nobody but itself, and the next round only by its time-out.
func (s *scraper) scrapeAll(ctx context.Context) {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		targets := s.targets()
		names := make([]string, 0, len(targets))
		var wait sync.WaitGroup
		for _, t := range targets {
			names = append(names, t.pod)
			wait.Go(func() {
				if err := s.scrape(ctx, t); err != nil {
					s.store.Fail(t.pod, err)
					s.log.Debug("scrape failed", "pod", t.pod, "error", err)
				}
			})
		}
		wait.Wait()
		s.store.Keep(names)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *scraper) scrape(ctx context.Context, t target) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return s.store.Add(t.pod, time.Now(), io.LimitReader(response.Body, maxExposition))
	case http.StatusForbidden:
		return errors.New("denied by policy: grant ServiceAccount scraper of namespace linkerd-viz access to port 4191")
	default:
		return fmt.Errorf("its proxy answered %s", response.Status)
	}
}

func (s *scraper) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authz", func(w http.ResponseWriter, r *http.Request) {
		window := DefaultWindow
		if asked := r.FormValue("window"); asked != "" {
			var err error
			if window, err = time.ParseDuration(asked); err != nil || window < MinWindow || window > MaxWindow {
				http.Error(w, fmt.Sprintf("window %q: want a duration from %s to %s", asked, MinWindow, MaxWindow), http.StatusBadRequest)
				return
			}
		}
		pods := strings.FieldsFunc(r.FormValue("pods"), func(c rune) bool { return c == ',' })
		if len(pods) == 0 {
			http.Error(w, "pods is empty: name one or more as NAMESPACE/POD", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.store.Table(pods, time.Now(), window)); err != nil {
			s.log.Info("answer not written", "error", err)
		}
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.pods.HasSynced() {
			http.Error(w, "the pods are not known yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// serve answers on the loopback address, and /ready alone on the other.
func serve(ctx context.Context, handler http.Handler, loopback, ready string) error {
	onlyReady := http.NewServeMux()
	onlyReady.Handle("/ready", handler)
	var wait sync.WaitGroup
	errs := make(chan error, 2)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for address, h := range map[string]http.Handler{loopback: handler, ready: onlyReady} {
		server := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: scrapeTimeout}
		wait.Go(func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				errs <- err
				stop()
			}
		})
		wait.Go(func() {
			<-ctx.Done()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			defer cancel()
			if server.Shutdown(last) != nil {
				server.Close()
			}
		})
	}
	wait.Wait()
	close(errs)
	return <-errs
}

// watchPods keeps the meshed pods of all namespaces, stripped to what a scrape
// needs.
func watchPods() (cache.SharedInformer, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.APIPath = "/api"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make an API client: %w", err)
	}
	watch := cache.NewFilteredListWatchFromClient(client, "pods", metav1.NamespaceAll, func(options *metav1.ListOptions) {
		options.LabelSelector = meshedLabel
	})
	informer := cache.NewSharedInformer(watch, &corev1.Pod{}, 0)
	err = informer.SetTransform(func(object any) (any, error) {
		if pod, ok := object.(*corev1.Pod); ok {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, ResourceVersion: pod.ResourceVersion},
				Status: corev1.PodStatus{PodIP: pod.Status.PodIP, Phase: pod.Status.Phase}}, nil
		}
		return object, nil
	})
	return informer, err
}
