// Package apistub is an API server for tests of whatever lists and watches: it
// keeps objects of any resource in memory, numbers their versions in one
// sequence as etcd does, and can be made to fail the way real ones do.
//
// Objects flow in through Put and Delete and out as JSON lists and watch streams,
// with bookmarks, streamed lists and label selectors of the form KEY and !KEY.
// Writes over HTTP are recorded and answered; what was posted can be read back.
//
// It validates nothing and knows no resource by name.
package apistub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Object is an object as JSON has it.
type Object = map[string]any

// Server is made by New.
type Server struct {
	http *httptest.Server

	mu sync.Mutex
	// version is the last one given out.
	version uint64
	// resources maps a path such as /api/v1/pods to what is there.
	resources map[string]*resource
	// moved is closed and replaced with every change that a watch may wait for.
	moved chan struct{}
	// held makes lists of a path wait until the channel is closed.
	held map[string]chan struct{}
	// refused is the status that lists and watches of a path are answered with.
	refused map[string]int
	// streamed says whether lists may be asked for as watches.
	streamed bool
	// epoch grows when watches are cut.
	epoch int
	// oldest is the oldest version that a watch may begin at.
	oldest uint64
	// stale counts lists that were content with any version.
	stale int
	// writes are the requests that change something, as METHOD PATH.
	writes []string
}

type resource struct {
	objects map[string]Object
	events  []event
	lists   int
}

type event struct {
	version uint64
	kind    string
	object  Object
}

// New starts a server without objects, which ends with the test. Version 1 has
// been given out.
func New(tb testing.TB) *Server {
	s := &Server{
		version: 1, resources: map[string]*resource{}, moved: make(chan struct{}), streamed: true,
		held: map[string]chan struct{}{}, refused: map[string]int{},
	}
	s.http = httptest.NewServer(s)
	tb.Cleanup(func() {
		s.Cut()
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Config is access to the server.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: s.http.URL, QPS: -1} }

// Put creates or replaces an object and returns its version. Its metadata must
// hold name, and namespace unless it has none.
func (s *Server) Put(path string, object Object) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(path)
	kind := "MODIFIED"
	if r.objects[key(object)] == nil {
		kind = "ADDED"
	}
	object = s.stamp(object)
	r.objects[key(object)] = object
	r.events = append(r.events, event{s.version, kind, object})
	s.wake()
	return strconv.FormatUint(s.version, 10)
}

// Delete removes an object and returns the version of its removal.
func (s *Server) Delete(path, namespace, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(path)
	object := s.stamp(r.objects[namespace+"/"+name])
	delete(r.objects, namespace+"/"+name)
	r.events = append(r.events, event{s.version, "DELETED", object})
	s.wake()
	return strconv.FormatUint(s.version, 10)
}

// Bookmark tells the watches of a path how far the server is, which is a version
// that no object of the path has.
func (s *Server) Bookmark(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	r := s.at(path)
	r.events = append(r.events, event{s.version, "BOOKMARK", s.bookmark(nil)})
	s.wake()
	return strconv.FormatUint(s.version, 10)
}

// Silently changes what a path holds without an event, as a change during a cut
// does: the next list shows it.
func (s *Server) Silently(path string, change func(objects map[string]Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	change(s.at(path).objects)
}

// Cut ends all watches, which may begin again where they were.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.wake()
}

// Expire ends all watches and forgets all events: whoever watches must list.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.version++
	s.oldest = s.version
	for _, r := range s.resources {
		r.events = nil
	}
	s.wake()
}

// WithoutStreamedLists makes the server one that has no such feature.
func (s *Server) WithoutStreamedLists() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamed = false
}

// Hold makes lists of the path wait until release is called.
func (s *Server) Hold(path string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.held[path] = gate
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, path)
		close(gate)
	}
}

// Refuse has lists and watches of the path answered with a status; 0 ends it.
func (s *Server) Refuse(path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[path] = status
}

// Version is the last one given out.
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.FormatUint(s.version, 10)
}

// Lists counts the lists of a path, streamed ones included.
func (s *Server) Lists(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at(path).lists
}

// Stale counts the lists that would have been answered from a lagging cache.
func (s *Server) Stale() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale
}

// Writes lists the requests that changed something, as "METHOD PATH".
func (s *Server) Writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// Objects returns what a path holds, in no order.
func (s *Server) Objects(path string) []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Object
	for _, object := range s.at(path).objects {
		all = append(all, object)
	}
	return all
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		s.create(w, r)
	case r.Method != http.MethodGet:
		s.write(w, r)
	case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
		s.watch(w, r)
	default:
		s.list(w, r)
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	if !s.admit(w, r) {
		return
	}
	s.mu.Lock()
	if r.URL.Query().Get("resourceVersion") == "0" {
		s.stale++
	}
	items := []Object{}
	for _, object := range s.at(r.URL.Path).objects {
		if selected(object, r) {
			items = append(items, object)
		}
	}
	list := Object{"kind": kindOf(r.URL.Path) + "List", "apiVersion": versionOf(r.URL.Path),
		"metadata": Object{"resourceVersion": strconv.FormatUint(s.version, 10)}, "items": items}
	s.mu.Unlock()
	reply(w, http.StatusOK, list)
}

// admit counts a list, and holds or refuses it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	s.at(r.URL.Path).lists++
	gate, status := s.held[r.URL.Path], s.refused[r.URL.Path]
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return false
		}
	}
	if status != 0 {
		fail(w, status, "refused by the test")
		return false
	}
	return true
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	s.mu.Lock()
	streamed := s.streamed
	s.mu.Unlock()
	if initial && !streamed {
		fail(w, http.StatusUnprocessableEntity, "sendInitialEvents is forbidden")
		return
	}
	if initial && !s.admit(w, r) {
		return
	}
	s.mu.Lock()
	if status := s.refused[r.URL.Path]; status != 0 {
		s.mu.Unlock()
		fail(w, status, "refused by the test")
		return
	}
	epoch := s.epoch
	last, _ := strconv.ParseUint(r.URL.Query().Get("resourceVersion"), 10, 64)
	out := stream{w: w, r: r}
	if initial {
		for _, object := range s.at(r.URL.Path).objects {
			out.send("ADDED", object)
		}
		last = s.version
		out.send("BOOKMARK", s.bookmark(Object{"k8s.io/initial-events-end": "true"}))
	} else if last < s.oldest {
		out.send("ERROR", Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": http.StatusGone, "reason": "Expired"})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if s.epoch != epoch {
			s.mu.Unlock()
			return
		}
		for _, e := range s.at(r.URL.Path).events {
			if e.version > last {
				out.send(e.kind, e.object)
				last = e.version
			}
		}
		moved := s.moved
		s.mu.Unlock()
		out.flush()
		select {
		case <-moved:
		case <-r.Context().Done():
			return
		}
	}
}

// create stores a posted object below the path of its resource in all
// namespaces, as it is listed.
func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	object, err := read(r)
	if err != nil {
		fail(w, http.StatusUnsupportedMediaType, err.Error())
		return
	}
	s.mu.Lock()
	s.writes = append(s.writes, r.Method+" "+r.URL.Path)
	known := s.at(withoutNamespace(r.URL.Path)).objects[key(object)]
	s.mu.Unlock()
	if known != nil {
		reply(w, http.StatusConflict, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": http.StatusConflict, "reason": "AlreadyExists"})
		return
	}
	s.Put(withoutNamespace(r.URL.Path), object)
	reply(w, http.StatusCreated, object)
}

// read decodes a posted object of the core group, from JSON or protobuf.
func read(r *http.Request) (Object, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	typed, kind, err := decoder.Decode(text, nil, nil)
	if err != nil {
		return nil, err
	}
	typed.GetObjectKind().SetGroupVersionKind(*kind)
	return runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
}

var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme).UniversalDeserializer()
}()

// write answers every other change with success.
func (s *Server) write(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.writes = append(s.writes, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	reply(w, http.StatusOK, Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
}

func (s *Server) at(path string) *resource {
	r := s.resources[path]
	if r == nil {
		r = &resource{objects: map[string]Object{}}
		s.resources[path] = r
	}
	return r
}

// stamp returns a copy of the object with the next version.
func (s *Server) stamp(object Object) Object {
	s.version++
	text, err := json.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("object of a test: %v", err))
	}
	var copied Object
	if err := json.Unmarshal(text, &copied); err != nil {
		panic(fmt.Sprintf("object of a test: %v", err))
	}
	metadata(copied)["resourceVersion"] = strconv.FormatUint(s.version, 10)
	return copied
}

func (s *Server) bookmark(annotations Object) Object {
	return Object{"metadata": Object{"resourceVersion": strconv.FormatUint(s.version, 10), "annotations": annotations}}
}

func (s *Server) wake() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// stream writes events; the headers go out with the first flush.
type stream struct {
	w http.ResponseWriter
	r *http.Request
}

func (o stream) send(kind string, object Object) {
	if kind != "ERROR" && kind != "BOOKMARK" && !selected(object, o.r) {
		return
	}
	if kind == "BOOKMARK" {
		object["kind"], object["apiVersion"] = kindOf(o.r.URL.Path), versionOf(o.r.URL.Path)
	}
	o.w.Header().Set("Content-Type", "application/json")
	// A client that has left is noticed by its context.
	_ = json.NewEncoder(o.w).Encode(Object{"type": kind, "object": object})
}

func (o stream) flush() {
	o.w.Header().Set("Content-Type", "application/json")
	o.w.(http.Flusher).Flush()
}

func selected(object Object, r *http.Request) bool {
	selector := r.URL.Query().Get("labelSelector")
	if name, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="); ok && metadata(object)["name"] != name {
		return false
	}
	if selector == "" {
		return true
	}
	wanted, negated := strings.CutPrefix(selector, "!")
	labels, _ := metadata(object)["labels"].(Object)
	_, has := labels[wanted]
	return has != negated
}

func metadata(object Object) Object {
	m, ok := object["metadata"].(Object)
	if !ok {
		m = Object{}
		object["metadata"] = m
	}
	return m
}

func key(object Object) string {
	namespace, _ := metadata(object)["namespace"].(string)
	return namespace + "/" + fmt.Sprint(metadata(object)["name"])
}

// withoutNamespace makes /api/v1/namespaces/NS/RESOURCE into /api/v1/RESOURCE.
func withoutNamespace(path string) string {
	parts := strings.Split(path, "/")
	if i := slices.Index(parts, "namespaces"); i >= 0 && len(parts) == i+3 {
		return strings.Join(append(parts[:i:i], parts[i+2]), "/")
	}
	return path
}

// kindOf guesses the kind that a resource's path lists; good enough for those in
// use.
func kindOf(path string) string {
	switch name := path[strings.LastIndex(path, "/")+1:]; name {
	case "pods":
		return "Pod"
	case "namespaces":
		return "Namespace"
	case "configmaps":
		return "ConfigMap"
	case "servers":
		return "Server"
	case "serverauthorizations":
		return "ServerAuthorization"
	default:
		return name
	}
}

func versionOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "apis" {
		return parts[1] + "/" + parts[2]
	}
	return parts[1]
}

func fail(w http.ResponseWriter, code int, message string) {
	reply(w, code, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reasons[code]})
}

// reasons are what clients tell failures apart by.
var reasons = map[int]string{
	http.StatusUnprocessableEntity: "Invalid", http.StatusNotFound: "NotFound", http.StatusTooManyRequests: "TooManyRequests", http.StatusInternalServerError: "InternalError",
}

func reply(w http.ResponseWriter, code int, object Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}
