// Package agent is what runs in a client pod: it makes calls when told to, so
// that thousands a second need no exec into the pod.
//
// Requests come in over HTTP/JSON on the loopback address only (package control
// has the types and the client), clients.Caller makes them, Outcomes go back:
//
//	GET    /ready                          204
//	GET    /time                           the clock
//	POST   /call        Request            -> Outcome
//	POST   /calls       []Request          -> []Outcome   (?parallel=N, 0 is all at once)
//	POST   /streams     StreamSpec         -> 201; 409 when the name is in use
//	GET    /streams/NAME?since=N&timeout=D -> StreamPage
//	DELETE /streams/NAME?since=N           -> the last StreamPage
//	DELETE /streams     {NAME: since}      -> []StreamPage, the last ones of those that there were
//	POST   /pages       {NAME: since}      -> []StreamPage, in the order of the names (?timeout=D)
//	POST   /connections ConnectionSpec     -> HeldState; 409 when the name is in use
//	GET    /connections/NAME?timeout=D     -> HeldState
//	DELETE /connections/NAME               -> the last HeldState
//
// It runs no programs, follows no redirects, retries nothing, and answers nobody
// outside its pod.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
)

const (
	// requestLimit bounds what one request to the agent may send.
	requestLimit = 64 << 20
	// waitLimit bounds how long a GET may block.
	waitLimit = time.Minute
)

// Agent is an http.Handler for the control API. Close ends what it started.
type Agent struct {
	mux    http.ServeMux
	caller *clients.Caller
	ctx    context.Context
	cancel context.CancelFunc

	// workers make the calls of streams, and running are those whose calls are not
	// over.
	workers *workers
	running sync.WaitGroup

	mu      sync.Mutex
	streams map[string]*stream
	// count is how many streams there are, for who does not have the lock.
	count atomic.Int32
	// held has a nil for a connection that is being opened.
	held map[string]*clients.Held
}

// New returns an Agent that calls by means of caller, which it does not close.
func New(caller *clients.Caller) *Agent {
	a := &Agent{caller: caller, workers: newWorkers(), streams: map[string]*stream{}, held: map[string]*clients.Held{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	a.mux.HandleFunc("GET /time", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, time.Now()) })
	a.mux.HandleFunc("POST /call", a.call)
	a.mux.HandleFunc("POST /calls", a.calls)
	a.mux.HandleFunc("POST /streams", a.startStream)
	a.mux.HandleFunc("GET /streams/{name}", a.getStream)
	a.mux.HandleFunc("DELETE /streams/{name}", a.stopStream)
	a.mux.HandleFunc("DELETE /streams", a.stopStreams)
	a.mux.HandleFunc("POST /pages", a.pages)
	a.mux.HandleFunc("POST /connections", a.openConnection)
	a.mux.HandleFunc("GET /connections/{name}", a.getConnection)
	a.mux.HandleFunc("DELETE /connections/{name}", a.closeConnection)
	return a
}

func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Close ends all streams and held connections and waits for them. Nothing may
// be started afterwards.
func (a *Agent) Close() {
	a.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		s.stop()
	}
	a.running.Wait() // also for those that somebody else is stopping
	a.workers.close()
	for _, h := range a.held {
		if h != nil {
			h.Close()
		}
	}
}

func (a *Agent) call(w http.ResponseWriter, r *http.Request) {
	var request clients.Request
	if !read(w, r, &request) || !valid(w, request) {
		return
	}
	reply(w, http.StatusOK, a.caller.Do(r.Context(), request))
}

func (a *Agent) calls(w http.ResponseWriter, r *http.Request) {
	var requests []clients.Request
	if !read(w, r, &requests) || !valid(w, requests...) {
		return
	}
	parallel := 0
	if text := r.FormValue("parallel"); text != "" {
		var err error
		if parallel, err = strconv.Atoi(text); err != nil || parallel < 0 {
			http.Error(w, fmt.Sprintf("parallel=%q is not a count", text), http.StatusBadRequest)
			return
		}
	}
	if parallel == 0 || parallel > len(requests) {
		parallel = len(requests)
	}
	outcomes := make([]clients.Outcome, len(requests))
	next := make(chan int)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for i := range next {
				outcomes[i] = a.caller.Do(r.Context(), requests[i])
			}
		})
	}
	for i := range requests {
		next <- i
	}
	close(next)
	workers.Wait()
	reply(w, http.StatusOK, outcomes)
}

func (a *Agent) startStream(w http.ResponseWriter, r *http.Request) {
	var spec control.StreamSpec
	if !read(w, r, &spec) || !valid(w, spec.Request) {
		return
	}
	if err := complete(&spec); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.streams[spec.Name]; ok || a.ctx.Err() != nil {
		http.Error(w, fmt.Sprintf("stream %q is there already", spec.Name), http.StatusConflict)
		return
	}
	a.streams[spec.Name] = startStream(a, spec)
	a.count.Store(int32(len(a.streams)))
	w.WriteHeader(http.StatusCreated)
}

// complete fills in defaults and reports what cannot be done.
func complete(spec *control.StreamSpec) error {
	if spec.Count == 0 {
		spec.Count = control.MaxCount
	}
	switch {
	case spec.Name == "":
		return errors.New("a stream needs a name")
	case !(spec.Rate > 0 && spec.Rate <= control.MaxRate):
		return fmt.Errorf("rate %v is not above 0 and at most %d", spec.Rate, control.MaxRate)
	case spec.Count < 0 || spec.Count > control.MaxCount:
		return fmt.Errorf("count %d is not between 1 and %d", spec.Count, control.MaxCount)
	case spec.Parallel < 0 || spec.Phase < 0:
		return errors.New("parallel and phase cannot be negative")
	}
	return nil
}

func (a *Agent) getStream(w http.ResponseWriter, r *http.Request) {
	since, ok := sequence(w, r)
	if !ok {
		return
	}
	ctx, cancel, ok := waiting(w, r)
	if !ok {
		return
	}
	defer cancel()
	a.mu.Lock()
	s := a.streams[r.PathValue("name")]
	a.mu.Unlock()
	if s == nil {
		missing(w, r)
		return
	}
	s.await(ctx, since)
	reply(w, http.StatusOK, s.page(since))
}

// pages reads many streams at once: asked for one by one, those of a large run cost
// more than their calls.
func (a *Agent) pages(w http.ResponseWriter, r *http.Request) {
	var since map[string]int64
	if !read(w, r, &since) {
		return
	}
	ctx, cancel, ok := waiting(w, r)
	if !ok {
		return
	}
	defer cancel()
	names := slices.Sorted(maps.Keys(since))
	streams := make([]*stream, len(names))
	a.mu.Lock()
	for i, name := range names {
		streams[i] = a.streams[name]
	}
	a.mu.Unlock()
	if i := slices.Index(streams, nil); i >= 0 {
		http.Error(w, fmt.Sprintf("there is no %q", names[i]), http.StatusNotFound)
		return
	}
	// One after the other: the last to have an answer is who is waited for anyway.
	for i, s := range streams {
		s.await(ctx, since[names[i]])
	}
	out := make([]control.StreamPage, len(names))
	for i, s := range streams {
		out[i] = s.page(since[names[i]])
	}
	reply(w, http.StatusOK, out)
}

func (a *Agent) stopStream(w http.ResponseWriter, r *http.Request) {
	since, ok := sequence(w, r)
	if !ok {
		return
	}
	a.mu.Lock()
	s := a.streams[r.PathValue("name")]
	delete(a.streams, r.PathValue("name"))
	a.count.Store(int32(len(a.streams)))
	a.mu.Unlock()
	if s == nil {
		missing(w, r)
		return
	}
	s.stop()
	reply(w, http.StatusOK, s.page(since))
}

// stopStreams ends many streams at once, so that the waits for their last answers are
// one.
func (a *Agent) stopStreams(w http.ResponseWriter, r *http.Request) {
	var since map[string]int64
	if !read(w, r, &since) {
		return
	}
	var streams []*stream
	a.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(since)) {
		if s := a.streams[name]; s != nil {
			streams = append(streams, s)
			delete(a.streams, name)
		}
	}
	a.count.Store(int32(len(a.streams)))
	a.mu.Unlock()
	for _, s := range streams {
		s.cancel()
	}
	out := make([]control.StreamPage, len(streams))
	for i, s := range streams {
		s.stop()
		out[i] = s.page(since[s.spec.Name])
	}
	reply(w, http.StatusOK, out)
}

func (a *Agent) openConnection(w http.ResponseWriter, r *http.Request) {
	var spec control.ConnectionSpec
	if !read(w, r, &spec) || !valid(w, spec.Request) {
		return
	}
	a.mu.Lock()
	_, taken := a.held[spec.Name]
	if !taken && spec.Name != "" {
		a.held[spec.Name] = nil
	}
	a.mu.Unlock()
	if taken || spec.Name == "" {
		http.Error(w, fmt.Sprintf("connection name %q is empty or in use", spec.Name), http.StatusConflict)
		return
	}
	held, err := a.caller.Hold(spec.Request, spec.Interval)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		delete(a.held, spec.Name)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if a.ctx.Err() != nil {
		held.Close()
	}
	a.held[spec.Name] = held
	reply(w, http.StatusCreated, held.State())
}

func (a *Agent) getConnection(w http.ResponseWriter, r *http.Request) {
	ctx, cancel, ok := waiting(w, r)
	if !ok {
		return
	}
	defer cancel()
	a.mu.Lock()
	held := a.held[r.PathValue("name")]
	a.mu.Unlock()
	if held == nil {
		missing(w, r)
		return
	}
	reply(w, http.StatusOK, held.Wait(ctx, waitLimit))
}

func (a *Agent) closeConnection(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	held := a.held[r.PathValue("name")]
	if held != nil {
		delete(a.held, r.PathValue("name"))
	}
	a.mu.Unlock()
	if held == nil {
		missing(w, r)
		return
	}
	reply(w, http.StatusOK, held.Close())
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, requestLimit))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		http.Error(w, fmt.Sprintf("read the request: %v", err), http.StatusBadRequest)
		return false
	}
	return true
}

func valid(w http.ResponseWriter, requests ...clients.Request) bool {
	for i, request := range requests {
		if err := request.Validate(); err != nil {
			http.Error(w, fmt.Sprintf("request %d: %v", i, err), http.StatusBadRequest)
			return false
		}
	}
	return true
}

func sequence(w http.ResponseWriter, r *http.Request) (int64, bool) {
	text := r.FormValue("since")
	if text == "" {
		return 0, true
	}
	since, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("since=%q is not a number", text), http.StatusBadRequest)
	}
	return since, err == nil
}

// waiting returns a context that ends with the request's timeout parameter; an
// absent one does not wait at all.
func waiting(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc, bool) {
	var wait time.Duration
	if text := r.FormValue("timeout"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil {
			http.Error(w, fmt.Sprintf("timeout=%q is not a duration", text), http.StatusBadRequest)
			return nil, nil, false
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, waitLimit))
	return ctx, cancel, true
}

func missing(w http.ResponseWriter, r *http.Request) {
	http.Error(w, fmt.Sprintf("there is no %q", r.PathValue("name")), http.StatusNotFound)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
