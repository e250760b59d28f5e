package echo

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Headers that the HTTP and gRPC ports read.
const (
	// HeaderID carries the caller's request id.
	HeaderID = "x-request-id"
	// HeaderClientID is set by a Linkerd proxy to the verified client identity.
	HeaderClientID = "l5d-client-id"
)

// Reply is the JSON body of an answer on the HTTP ports: what arrived, as the
// application saw it.
type Reply struct {
	ID       string `json:"id,omitempty"`
	Protocol string `json:"protocol"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Host     string `json:"host"`
	Peer     string `json:"peer"`
	ClientID string `json:"clientID,omitempty"`
	// Bytes is the length of the request's body.
	Bytes int64 `json:"bytes"`
}

// httpHandler records and echoes every request. A path that begins with
// /status/NNN is answered with that status.
func httpHandler(recorder *Recorder, port int, secure bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol := "http" + strconv.Itoa(r.ProtoMajor)
		recorded := protocol
		if secure {
			recorded = "tls"
		}
		recorder.Add(Delivery{Event: EventRequest, ID: r.Header.Get(HeaderID), Protocol: recorded, Port: port, Method: r.Method,
			Path: r.RequestURI, Peer: r.RemoteAddr, ClientID: r.Header.Get(HeaderClientID)})
		bytes, _ := io.Copy(io.Discard, r.Body)
		status := http.StatusOK
		if text, ok := strings.CutPrefix(r.URL.Path, "/status/"); ok {
			if code, err := strconv.Atoi(text); err == nil && code >= 200 && code < 600 {
				status = code
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(HeaderID, r.Header.Get(HeaderID))
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(Reply{ID: r.Header.Get(HeaderID), Protocol: protocol, Method: r.Method, Path: r.RequestURI,
			Host: r.Host, Peer: r.RemoteAddr, ClientID: r.Header.Get(HeaderClientID), Bytes: bytes})
	})
}
