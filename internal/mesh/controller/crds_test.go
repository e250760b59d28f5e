package controller

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// C-30: a kind counts as there when its CRD is, however long the API server takes
// to serve it; one without a CRD is not waited for.
func TestKindsWhoseCRDsAreThereAreWaitedFor(t *testing.T) {
	var mu sync.Mutex
	lists, discoveries := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		late := func(counter *int, body string) {
			if *counter++; *counter < 2 {
				w.WriteHeader(http.StatusNotFound)
				body = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`
			}
			_, _ = io.WriteString(w, body)
		}
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/customresourcedefinitions/"+api.CRDName(api.GatewayGRPCRoutes)):
			_, _ = io.WriteString(w, `{"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "grpcroutes.gateway.networking.k8s.io"},
				"spec": {"versions": [{"name": "v1", "served": true}]}}`)
		case strings.HasSuffix(path, "/grpcroutes"):
			late(&lists, `{"kind": "GRPCRouteList", "apiVersion": "gateway.networking.k8s.io/v1", "metadata": {}, "items": []}`)
		case path == "/apis/gateway.networking.k8s.io/v1":
			late(&discoveries, `{"kind": "APIResourceList", "apiVersion": "v1", "resources": [{"name": "grpcroutes"}]}`)
		default:
			if strings.HasSuffix(path, "/customresourcedefinitions/"+api.CRDName(api.GatewayHTTPRoutes)) {
				// Somebody's, of a time before that version.
				_, _ = io.WriteString(w, `{"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "httproutes.gateway.networking.k8s.io"},
					"spec": {"versions": [{"name": "v1beta1", "served": true}, {"name": "v1", "served": false}]}}`)
				return
			}
			if !strings.Contains(path, "/customresourcedefinitions/") {
				t.Errorf("%s is asked for although there is no CRD", path)
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`)
		}
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	config := &rest.Config{Host: server.URL, Transport: transport}
	core, err := kube.For(config, corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	custom, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitCRDs(t.Context(), core, custom); err != nil {
		t.Fatal(err)
	}
	if lists < 3 || discoveries < 2 {
		t.Errorf("it was content after %d lists and %d discoveries", lists, discoveries)
	}
}
