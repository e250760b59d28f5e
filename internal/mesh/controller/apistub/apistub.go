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
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"

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
	// served are the paths that discovery tells of, in this order.
	served []string
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

// New starts a server without objects, which ends with the test, or with whatever
// else has a Cleanup. Version 1 has
// been given out.
func New(tb interface{ Cleanup(func()) }) *Server {
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

// Serve has discovery tell of resources, by paths such as
// /apis/GROUP/VERSION/RESOURCE, newer versions first.
func (s *Server) Serve(paths ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = append(s.served, paths...)
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

// SetBack ends all watches and goes on from an older version with what there is, as
// a store that was brought back from a backup does.
func (s *Server) SetBack(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.version, s.oldest = version, 0
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
