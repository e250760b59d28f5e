// Package kubetest is an API server in memory for the tests of whatever talks to
// one through package kube.
//
// It keeps objects of any resource, answers get, list, create, update, delete,
// merge patches (of the status, too) and the strategic ones of webhook
// configurations, and streams watches from a list on. An update or patch that
// names another version than the last is a conflict.
// Tests put and look at objects directly, and may have requests fail.
//
// It checks nothing: no schema, no rights, no admission. It is no place to find
// out how a real API server behaves.
package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Server is the API server. Make it with New.
type Server struct {
	tb     testing.TB
	server *httptest.Server
	codecs serializer.CodecFactory

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any // by path
	watches  map[chan change]string    // by the path of their collection
	fail     func(method, path string) int
	answers  map[string]func(object map[string]any) any
	requests []string
}

// change is what watches are told: the path tells whose it is.
type change struct {
	kind   string
	path   string
	object map[string]any
}

// backlog is how many changes a watch may be behind; beyond it the test is wrong.
const backlog = 1000

// New starts a server that ends with the test.
func New(tb testing.TB) *Server {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, admissionregistrationv1.AddToScheme, authenticationv1.AddToScheme, coordinationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			tb.Fatal(err)
		}
	}
	s := &Server{tb: tb, codecs: serializer.NewCodecFactory(scheme), objects: map[string]map[string]any{}, watches: map[chan change]string{}, answers: map[string]func(map[string]any) any{}}
	s.server = httptest.NewServer(s)
	tb.Cleanup(s.server.Close)
	return s
}

// Config is how to reach it.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: s.server.URL} }

// Kubeconfig is the same as the text of a kubeconfig file.
func (s *Server) Kubeconfig() []byte {
	return fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
users: [{name: a, user: {}}], clusters: [{name: a, cluster: {server: "%s"}}]}`, s.server.URL)
}

// Fail has requests answered with the status that f returns; 0 is no failure.
func (s *Server) Fail(f func(method, path string) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Answer has objects that are created in a collection answered by f instead of
// being kept, as reviews are.
func (s *Server) Answer(collection string, f func(object map[string]any) any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[collection] = f
}

// Requests lists "METHOD path" of all requests so far.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Put creates or replaces an object; its path is that of the API, such as
// /api/v1/namespaces/a/secrets/b.
func (s *Server) Put(at string, object any) {
	s.tb.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		s.tb.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(at, fields)
}

// Delete removes an object.
func (s *Server) Delete(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delete(at)
}

// Get reads an object into a value of its type and tells whether there is one.
func (s *Server) Get(at string, into any) bool {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	object, ok := s.objects[at]
	if ok {
		if err := convert(object, into); err != nil {
			s.tb.Fatal(err)
		}
	}
	return ok
}

// Paths lists the paths of all objects of a collection, sorted.
func (s *Server) Paths(collection string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for at := range s.objects {
		if contains(collection, at) {
			all = append(all, at)
		}
	}
	slices.Sort(all)
	return all
}

func (s *Server) put(at string, object map[string]any) {
	s.version++
	object["apiVersion"], object["kind"] = kindOf(path.Dir(at))
	meta := fields(object, "metadata")
	meta["name"], meta["resourceVersion"] = path.Base(at), strconv.Itoa(s.version)
	if namespace, ok := namespaceOf(at); ok {
		meta["namespace"] = namespace
	}
	if meta["uid"] == nil {
		meta["uid"] = fmt.Sprintf("uid-%d", s.version)
	}
	kind := "ADDED"
	if s.objects[at] != nil {
		kind = "MODIFIED"
	}
	s.objects[at] = object
	s.tell(change{kind, at, maps.Clone(object)})
}

func (s *Server) delete(at string) {
	if object := s.objects[at]; object != nil {
		s.version++
		delete(s.objects, at)
		fields(object, "metadata")["resourceVersion"] = strconv.Itoa(s.version)
		s.tell(change{"DELETED", at, object})
	}
}

func (s *Server) tell(c change) {
	for watch, collection := range s.watches {
		if contains(collection, c.path) {
			watch <- c
		}
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := s.body(r)
	if err != nil {
		s.tb.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/version" {
		io.WriteString(w, `{"gitVersion":"v1.36.0"}`)
		return
	}
	if watch := r.URL.Query().Get("watch"); watch == "true" || watch == "1" {
		s.watch(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	if s.fail != nil {
		if code := s.fail(r.Method, r.URL.Path); code != 0 {
			refuse(w, code, reasonOf(code))
			return
		}
	}
	at := r.URL.Path
	_, there := s.objects[at]
	switch r.Method {
	case http.MethodGet:
		if there {
			json.NewEncoder(w).Encode(s.objects[at])
		} else if collection(at) {
			items := []any{}
			for _, object := range s.list(r) {
				items = append(items, object)
			}
			apiVersion, kind := kindOf(at)
			json.NewEncoder(w).Encode(map[string]any{"apiVersion": apiVersion, "kind": kind + "List",
				"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "items": items})
		} else {
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		}
	case http.MethodPost:
		if answer := s.answers[at]; answer != nil {
			json.NewEncoder(w).Encode(answer(body))
			return
		}
		name, _ := fields(body, "metadata")["name"].(string)
		at = path.Join(at, name)
		if _, there := s.objects[at]; there {
			refuse(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
			return
		}
		s.put(at, body)
		json.NewEncoder(w).Encode(body)
	case http.MethodPut, http.MethodPatch:
		at = strings.TrimSuffix(at, "/status")
		if _, there := s.objects[at]; !there {
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		// Who says what he has changed must have seen the last of it.
		if version, said := fields(body, "metadata")["resourceVersion"]; said && version != fields(s.objects[at], "metadata")["resourceVersion"] {
			refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
			return
		}
		if r.Method == http.MethodPatch {
			merged := map[string]any{}
			if err := convert(s.objects[at], &merged); err != nil {
				s.tb.Error(err)
			}
			merge(merged, body, r.Header.Get("Content-Type") != string(types.MergePatchType))
			body = merged
		}
		s.put(at, body)
		json.NewEncoder(w).Encode(body)
	case http.MethodDelete:
		s.delete(at)
		json.NewEncoder(w).Encode(metav1.Status{Status: metav1.StatusSuccess})
	}
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, "WATCH "+r.URL.Path)
	if s.fail != nil {
		if code := s.fail("WATCH", r.URL.Path); code != 0 {
			refuse(w, code, reasonOf(code))
			s.mu.Unlock()
			return
		}
	}
	changes := make(chan change, backlog)
	initial := s.list(r)
	version := strconv.Itoa(s.version)
	s.watches[changes] = r.URL.Path
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, changes)
	}()
	send := func(kind string, object map[string]any) {
		json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": object})
		w.(http.Flusher).Flush()
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, object := range initial {
			send("ADDED", object)
		}
		send("BOOKMARK", bookmark(r.URL.Path, version))
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case c := <-changes:
			if selected(r, c.object) {
				send(c.kind, c.object)
			}
		case <-r.Context().Done():
			return
		}
	}
}

// bookmark ends the initial list of a watch; it must look like an object of the
// watched kind.
func bookmark(collection, version string) map[string]any {
	apiVersion, kind := kindOf(collection)
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{
		"resourceVersion": version, "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"}}}
}

// kinds are those of the resources that tests use.
var kinds = map[string]string{
	"secrets": "Secret", "configmaps": "ConfigMap", "pods": "Pod", "namespaces": "Namespace", "services": "Service", "events": "Event",
	"endpointslices": "EndpointSlice", "servers": "Server", "serverauthorizations": "ServerAuthorization", "tokenreviews": "TokenReview",
	"authorizationpolicies": "AuthorizationPolicy", "meshtlsauthentications": "MeshTLSAuthentication", "networkauthentications": "NetworkAuthentication",
	"httplocalratelimitpolicies": "HTTPLocalRateLimitPolicy", "httproutes": "HTTPRoute", "grpcroutes": "GRPCRoute", "leases": "Lease",
	"mutatingwebhookconfigurations": "MutatingWebhookConfiguration", "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
}

func kindOf(collection string) (apiVersion, kind string) {
	parts := strings.Split(collection, "/")
	apiVersion = parts[2]
	if parts[1] == "apis" {
		apiVersion += "/" + parts[3]
	}
	return apiVersion, kinds[path.Base(collection)]
}

// list is what a list or watch begins with.
func (s *Server) list(r *http.Request) []map[string]any {
	var all []map[string]any
	for _, at := range slices.Sorted(maps.Keys(s.objects)) {
		if contains(r.URL.Path, at) && selected(r, s.objects[at]) {
			all = append(all, s.objects[at])
		}
	}
	return all
}

// selected understands the one field selector that package kube uses.
func selected(r *http.Request, object map[string]any) bool {
	name, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	return !ok || fields(object, "metadata")["name"] == name
}

// body reads a request's object, in whatever form it came.
func (s *Server) body(r *http.Request) (map[string]any, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	if r.Header.Get("Content-Type") == runtime.ContentTypeProtobuf {
		object, kind, err := s.codecs.UniversalDeserializer().Decode(text, nil, nil)
		if err != nil {
			return nil, err
		}
		object.GetObjectKind().SetGroupVersionKind(*kind)
		if text, err = json.Marshal(object); err != nil {
			return nil, err
		}
	}
	var fields map[string]any
	return fields, json.Unmarshal(text, &fields)
}

// contains reports whether an object's path is in a collection, that of one
// namespace or of all.
func contains(collection, at string) bool {
	dir := path.Dir(at)
	if dir == collection {
		return true
	}
	prefix, resource := path.Split(collection)
	rest, ok := strings.CutPrefix(dir, prefix+"namespaces/")
	_, of, two := strings.Cut(rest, "/")
	return ok && two && of == resource
}

// collection tells paths of collections from those of objects: /api/v1/RESOURCE,
// /apis/G/V/RESOURCE, or either with /namespaces/NS before the resource.
func collection(at string) bool {
	n := len(strings.Split(strings.Trim(at, "/"), "/"))
	if strings.HasPrefix(at, "/apis/") {
		n--
	}
	return n == 3 || n == 5
}

func namespaceOf(at string) (string, bool) {
	parts := strings.Split(at, "/")
	i := slices.Index(parts, "namespaces")
	if i < 0 || i+2 >= len(parts) {
		return "", false
	}
	return parts[i+1], true
}

// merge is a merge patch. With strategic, it is the part of a strategic one that
// webhook configurations need: lists of named things are merged by name.
func merge(into, patch map[string]any, strategic bool) {
	for key, value := range patch {
		switch value := value.(type) {
		case map[string]any:
			merge(fields(into, key), value, strategic)
		case []any:
			if !strategic {
				into[key] = value
				continue
			}
			current, _ := into[key].([]any)
			for _, item := range value {
				for _, old := range current {
					if old.(map[string]any)["name"] == item.(map[string]any)["name"] {
						merge(old.(map[string]any), item.(map[string]any), strategic)
					}
				}
			}
		default:
			into[key] = value
		}
	}
}

// fields is the object under a key, made when there is none.
func fields(object map[string]any, key string) map[string]any {
	inner, ok := object[key].(map[string]any)
	if !ok {
		inner = map[string]any{}
		object[key] = inner
	}
	return inner
}

func convert(from, into any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// reasonOf is what a real server says of failures that tests ask for.
func reasonOf(code int) metav1.StatusReason {
	if code == http.StatusNotFound {
		return metav1.StatusReasonNotFound
	}
	return metav1.StatusReasonInternalError
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: string(reason)})
}
