package apistub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		s.create(w, r)
	case r.Method != http.MethodGet:
		s.write(w, r)
	case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
		s.watch(w, r)
	case strings.Count(r.URL.Path, "/") < 4 && strings.HasPrefix(r.URL.Path, "/apis/"):
		s.discover(w, r)
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
	case "leases":
		return "Lease"
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

// discover answers /apis/GROUP and /apis/GROUP/VERSION with what Serve was told.
func (s *Server) discover(w http.ResponseWriter, r *http.Request) {
	if !s.admit(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	versions, resources := []Object{}, []Object{}
	for _, path := range s.served {
		group, resource, _ := strings.Cut(strings.TrimPrefix(path, r.URL.Path+"/"), "/")
		switch {
		case !strings.HasPrefix(path, r.URL.Path+"/"):
		case resource == "":
			resources = append(resources, Object{"name": group})
		case !slices.ContainsFunc(versions, func(v Object) bool { return v["version"] == group }):
			versions = append(versions, Object{"version": group})
		}
	}
	if len(versions)+len(resources) == 0 {
		fail(w, http.StatusNotFound, "the server could not find the requested resource")
		return
	}
	reply(w, http.StatusOK, Object{"versions": versions, "resources": resources})
}
