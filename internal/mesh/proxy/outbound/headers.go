package outbound

import (
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/time/rate"
)

// Header names between proxies, in the library's spelling.
const (
	headerOrigProto       = "L5d-Orig-Proto"
	headerProxyError      = "L5d-Proxy-Error"
	headerProxyConnection = "L5d-Proxy-Connection"
)

// forged are headers by which an application could pose as a proxy, or have its
// words taken for one's.
var forged = []string{
	"L5d-Client-Id", "L5d-Server-Id", "L5d-Remote-Ip", "L5d-Dst-Override", "L5d-Dst-Canonical",
	headerOrigProto, headerProxyError, headerProxyConnection,
}

// fromProxies are headers that only proxies are to see (N-07, H-01).
var fromProxies = []string{headerOrigProto, headerProxyError, headerProxyConnection}

// hopByHop concern one connection and are not passed on.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect"}

// cleanRequest copies what of a request's header may leave.
func cleanRequest(h http.Header) http.Header {
	out := h.Clone()
	dropHopByHop(out)
	for _, name := range forged {
		out.Del(name)
	}
	if httpguts.HeaderValuesContainsToken(h["Te"], "trailers") {
		out["Te"] = []string{"trailers"} // gRPC insists on it
	}
	return out
}

// cleanAnswer takes from a response's header what the application is not to see.
// A proxy that says its connection ends has the application's end too.
func (s *session) cleanAnswer(h http.Header, r *http.Request) {
	ends := strings.EqualFold(h.Get(headerProxyConnection), "close")
	if message := h.Get(headerProxyError); message != "" {
		s.proxy.remote.log(s, r, message)
	}
	dropHopByHop(h)
	for _, name := range fromProxies {
		h.Del(name)
	}
	if ends && r.ProtoMajor == 1 {
		h.Set("Connection", "close")
	}
}

func cleanTrailer(h http.Header) http.Header {
	for _, name := range fromProxies {
		h.Del(name)
	}
	return h
}

func dropHopByHop(h http.Header) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

func isUpgrade(h http.Header) bool {
	upgrade := h.Get("Upgrade")
	// An upgrade to HTTP/2 is not passed on: requests would follow that nobody
	// looks at. Without it the request is an ordinary one.
	return upgrade != "" && !strings.EqualFold(upgrade, "h2c") && httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade")
}

// remoteErrors logs what other proxies said, not more often than a reader can
// follow: under a policy that denies, every request brings one.
type remoteErrors struct{ sometimes rate.Sometimes }

func (l *remoteErrors) init() {
	l.sometimes.First, l.sometimes.Interval = remoteErrorsFirst, remoteErrorsEvery
}

const (
	remoteErrorsFirst = 10
	remoteErrorsEvery = time.Second
)

func (l *remoteErrors) log(s *session, r *http.Request, message string) {
	l.sometimes.Do(func() {
		s.log.Info("remote proxy error", "error", message, "method", r.Method, "path", r.URL.Path)
	})
}
