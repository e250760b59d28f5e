// Package observe tells, on loopback only, how far the controller has come: which
// resourceVersion of each kind the index has taken, and which policy it serves
// for a port.
//
// Who has written an object asks with the version that the write was answered
// with, and is answered once that version has been taken; no polling, and
// nothing is added to what proxies are sent. The hash is the one that the proxy
// tells of the policy in force, so that equality means "in force".
//
//	GET /observed?ns=NS&pod=POD&port=N[&min=KIND:RV]...[&timeout=5s]
//	200 {"observed":{KIND:RV,...},"hash":HEX,"server":{...}}
//	400 the question is malformed; 404 no such meshed pod; 409 a kind of min is not
//	watched, as its CRD did not exist at start; 504 not observed in time
//
// KIND is a resource's name such as servers; those of the Gateway API have their
// group, as in httproutes.gateway.networking.k8s.io. min is given once per kind.
//
// Answers other than 200 are {"observed":{...},"error":TEXT}. ns, pod and port
// may be left out together to ask about observation alone; hash and server are
// then absent.
//
// It refuses to change anything, and to be reached from outside the pod.
package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
)

const (
	// defaultTimeout and maxTimeout bound how long a question may wait.
	defaultTimeout = 5 * time.Second
	maxTimeout     = time.Minute
	// patience is how long an event is waited for before the kind is listed anew.
	// A version that no event will tell of (the one a list was answered with
	// after a deletion, for instance) is reached no other way. It is longer than
	// events take, so that ordinary writes cause no lists.
	patience = 250 * time.Millisecond
)

// Handler answers GET /observed.
type Handler struct {
	Index   *index.Index
	Watcher *watch.Watcher
}

// question is a parsed request.
type question struct {
	namespace, pod string
	port           uint16
	least          map[watch.Kind]uint64
	timeout        time.Duration
}

// answer is the body of every response.
type answer struct {
	Observed map[watch.Kind]string `json:"observed"`
	Hash     string                `json:"hash,omitempty"`
	Server   json.RawMessage       `json:"server,omitempty"`
	Error    string                `json:"error,omitempty"`
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := parse(r.URL.Query())
	if err != nil {
		h.reply(w, http.StatusBadRequest, answer{Error: err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), q.timeout)
	defer cancel()
	if err := h.await(ctx, q.least); err != nil {
		code := http.StatusGatewayTimeout
		if errors.Is(err, errUnwatched) {
			code = http.StatusConflict
		}
		h.reply(w, code, answer{Error: err.Error()})
		return
	}
	// The marks are read before the policy: it is then at least as new as they say.
	a := answer{Observed: h.observed()}
	if q.pod == "" {
		h.reply(w, http.StatusOK, a)
		return
	}
	snapshot, err := h.Index.Lookup(q.namespace, q.pod, q.port)
	if err != nil {
		a.Error = fmt.Sprintf("%s/%s: %v", q.namespace, q.pod, err)
		h.reply(w, http.StatusNotFound, a)
		return
	}
	message := inbound.MessageOf(snapshot)
	a.Hash = message.Hash
	if a.Server, err = protojson.Marshal(message.Server); err != nil {
		h.reply(w, http.StatusInternalServerError, answer{Error: err.Error()})
		return
	}
	h.reply(w, http.StatusOK, a)
}

// errUnwatched says that a version will never be observed.
var errUnwatched = errors.New("is not watched, its CRD did not exist when the controller started")

// await returns when the index is complete and has reached the bounds.
func (h *Handler) await(ctx context.Context, least map[watch.Kind]uint64) error {
	select {
	case <-h.Watcher.Synced():
	case <-ctx.Done():
		return fmt.Errorf("await the first list of every kind: %w", ctx.Err())
	}
	for kind := range least {
		if !h.Watcher.Watched(kind) {
			return fmt.Errorf("%s: %w", kind, errUnwatched)
		}
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := h.Watcher.Marks.Await(short, least)
	if err == nil || ctx.Err() != nil {
		return err
	}
	seen := h.Watcher.Marks.Seen()
	for kind, version := range least {
		if seen[kind] < version {
			h.Watcher.Refresh(kind)
		}
	}
	return h.Watcher.Marks.Await(ctx, least)
}

func (h *Handler) observed() map[watch.Kind]string {
	observed := map[watch.Kind]string{}
	for _, kind := range watch.Kinds() {
		if h.Watcher.Watched(kind) {
			observed[kind] = "0"
		}
	}
	for kind, version := range h.Watcher.Marks.Seen() {
		observed[kind] = strconv.FormatUint(version, 10)
	}
	return observed
}

func (h *Handler) reply(w http.ResponseWriter, code int, a answer) {
	if a.Observed == nil {
		a.Observed = h.observed()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A failure to write is the asker's: there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(a)
}

func parse(values url.Values) (question, error) {
	q := question{namespace: values.Get("ns"), pod: values.Get("pod"), least: map[watch.Kind]uint64{}, timeout: defaultTimeout}
	if q.pod != "" || q.namespace != "" || values.Has("port") {
		port, err := strconv.ParseUint(values.Get("port"), 10, 16)
		if err != nil || port == 0 {
			return q, fmt.Errorf("port %q is not between 1 and 65535", values.Get("port"))
		}
		if q.pod == "" || q.namespace == "" {
			return q, errors.New("want ns, pod and port together")
		}
		q.port = uint16(port)
	}
	for _, bound := range values["min"] {
		name, text, ok := strings.Cut(bound, ":")
		kind := watch.Kind(name)
		if !ok || !slices.Contains(watch.Kinds(), kind) {
			return q, fmt.Errorf("min %q is not KIND:RESOURCEVERSION with a kind of %v", bound, watch.Kinds())
		}
		version, err := watch.ParseVersion(text)
		if err != nil {
			return q, fmt.Errorf("min %q: %w", bound, err)
		}
		q.least[kind] = max(q.least[kind], version)
	}
	if text := values.Get("timeout"); text != "" {
		timeout, err := time.ParseDuration(text)
		if err != nil || timeout < 0 {
			return q, fmt.Errorf("timeout %q is not a duration such as 5s", text)
		}
		q.timeout = min(timeout, maxTimeout)
	}
	return q, nil
}
