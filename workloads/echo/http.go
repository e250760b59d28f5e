package echo

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers that the HTTP and gRPC ports read.
const (
	// HeaderID carries the caller's request id.
	HeaderID = "x-request-id"
	// HeaderClientID is set by a Linkerd proxy to the verified client identity.
	HeaderClientID = "l5d-client-id"
)

// UpgradeToken is the protocol that HTTP/1.1 requests may switch to on the HTTP
// ports.
const UpgradeToken = "meshproof-echo"

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
	// Headers are all that came, by lower-case name, several values joined by ", ".
	Headers map[string]string `json:"headers"`
	// Bytes is the length of the request's body.
	Bytes int64 `json:"bytes"`
}

// Paths by which a caller chooses the answer.
const (
	// PathStatus, followed by NNN, is answered with that status.
	PathStatus = "/status/"
	// PathRedirect, followed by NNN/REST, is answered with that status and the
	// location /REST.
	PathRedirect = "/redirect/"
)

// headerLimit bounds the headers that a record keeps of one request.
const headerLimit = 64

// httpHandler records and echoes every request. One that asks for UpgradeToken, or
// to CONNECT to whatever, gets a tunnel in which lines come back.
func httpHandler(recorder *Recorder, port int, secure bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol := "http" + strconv.Itoa(r.ProtoMajor)
		d := Delivery{Event: EventRequest, ID: r.Header.Get(HeaderID), Protocol: protocol, Port: port, Method: r.Method,
			Path: r.RequestURI, Host: r.Host, Peer: r.RemoteAddr, ClientID: r.Header.Get(HeaderClientID), Headers: flatten(r.Header)}
		if secure {
			d.Protocol = "tls"
		}
		recorder.Add(d)
		if r.Method == http.MethodConnect || strings.EqualFold(r.Header.Get("Upgrade"), UpgradeToken) {
			tunnel(w, r, recorder, d)
			return
		}
		bytes, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(HeaderID, d.ID)
		w.WriteHeader(chosen(w, r.URL.Path))
		json.NewEncoder(w).Encode(Reply{ID: d.ID, Protocol: protocol, Method: r.Method, Path: r.RequestURI,
			Host: r.Host, Peer: r.RemoteAddr, ClientID: d.ClientID, Headers: d.Headers, Bytes: bytes})
	})
}

// chosen returns the status that the path asks for, having set the location.
func chosen(w http.ResponseWriter, path string) int {
	text, status := strings.CutPrefix(path, PathStatus)
	to := ""
	if !status {
		text, to, _ = strings.Cut(strings.TrimPrefix(path, PathRedirect), "/")
		if !strings.HasPrefix(path, PathRedirect) {
			return http.StatusOK
		}
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 200 || code >= 600 {
		return http.StatusOK
	}
	if !status {
		w.Header().Set("Location", "/"+to)
	}
	return code
}

// tunnel takes the connection over and echoes lines until its other end leaves.
func tunnel(w http.ResponseWriter, r *http.Request, recorder *Recorder, d Delivery) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no tunnel over "+r.Proto, http.StatusNotImplemented)
		return
	}
	defer conn.Close()
	head := "HTTP/1.1 200 OK\r\n"
	if r.Method != http.MethodConnect {
		head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + UpgradeToken + "\r\n"
	}
	conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, head+HeaderID+": "+d.ID+"\r\n\r\n"); err != nil {
		return
	}
	echoLines(conn, buffered.Reader, func(id string, bytes int) {
		recorder.Add(Delivery{Event: EventLine, ID: id, Protocol: d.Protocol, Port: d.Port, Peer: d.Peer, Bytes: bytes})
	})
	recorder.Add(Delivery{Event: EventClose, Protocol: d.Protocol, Port: d.Port, Peer: d.Peer})
}

// flatten gives headers the form that records have.
func flatten[H ~map[string][]string](header H) map[string]string {
	flat := map[string]string{}
	for name, values := range header {
		if len(flat) == headerLimit {
			break
		}
		flat[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return flat
}
