package abuse

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/proxytest"
)

// refused are the statuses of what is not let through.
var refused = []int{http.StatusForbidden, http.StatusBadRequest}

// targets asks for each target and lets the oracle judge.
func targets(statuses []int, targets ...string) func(*T) {
	return func(t *T) {
		w := newWorld(t, guarded(detect))
		for _, target := range targets {
			w.everyWay(target, statuses...)
		}
		w.everyWay("/public", http.StatusOK)
	}
}

// everyWay is want of a GET by HTTP/1, by HTTP/2, and as HTTP/1 that HTTP/2 carries
// (H-01). Where it must not be let through, a stream's error will do.
func (w *world) everyWay(target string, statuses ...int) {
	w.Helper()
	w.want(get(target), statuses...)
	for how, pairs := range map[string][]string{"HTTP/2": nil, "carried HTTP/1": {"l5d-orig-proto", "HTTP/1.1"}} {
		h := w.h2()
		s := h.get(target, pairs...)
		refused := s.status() == 0 && (s.reset != nil || h.goAway != nil || h.broke()) && !slices.Contains(statuses, http.StatusOK)
		if !refused && !slices.Contains(statuses, s.status()) {
			w.Errorf("%s, %.120q: status %d (reset %v, connection %v %v), want one of %v", how, target, s.status(), s.reset, h.goAway, h.ended, statuses)
		}
		h.Close()
	}
}

// only is a policy with one open route of these matches, and nothing else.
func only(matches ...*http_route.HttpRouteMatch) *pb.Server {
	route := proxytest.Route("only", nil, proxytest.Anyone("everybody"))
	route.Rules[0].Matches = matches
	return proxytest.Server(detect(route))
}

func pathCases() []Case {
	return []Case{
		{Number: 1, Title: "slashes twice have the verdict of the merged path", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for _, target := range []string{"//admin", "///admin", "//admin//x", "/admin//"} {
				w.everyWay(target, refused...)
			}
			w.everyWay("/a//admin", http.StatusOK)
			if got := w.app.last(t).target; got != "/a/admin" {
				t.Errorf("/a//admin was forwarded as %q, want the merged path that was judged", got)
			}
		}},
		{Number: 2, Title: "dot segments are resolved before matching, or 400", Run: targets(refused,
			"/./admin", "/x/../admin", "/..;/admin", "/admin/.", "/x/y/../../admin/z", "/../admin", "/admin/x/..")},
		{Number: 3, Title: "escapes of unreserved characters are decoded before matching", Run: targets(refused,
			"/%61dmin", "/ad%6Din", "/ad%6din", "/%61%64%6D%69%6e/x", "/x/%2e%2E/admin", "/%2E/admin")},
		{Number: 4, Title: "hidden separators get 400", Run: targets([]int{http.StatusBadRequest},
			"/x%2f..%2fadmin", "/x%2F..%2Fadmin", "/x%5c..%5cadmin", `/x\..\admin`, `/\admin`, "/%2fadmin")},
		{Number: 5, Title: "escapes are decoded once, never twice", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for _, target := range []string{"/%252e%252e/admin", "/%2561dmin", "/x/%252e%252e/admin"} {
				w.everyWay(target, http.StatusOK)
				if got := w.app.last(t).target; got != target {
					t.Errorf("%s was forwarded as %q", target, got)
				}
			}
		}},
		{Number: 6, Title: "overlong UTF-8, NUL, control and high bytes get 400", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for _, target := range []string{"/%c0%ae%c0%ae/admin", "/%c0%afadmin", "/admin%00", "/%00", "/a\x01b", "/a\x7fb", "/\x80dmin", "/\xc0\xae/admin", "/%e0%80%ae/x", "/%1f"} {
				w.everyWay(target, http.StatusBadRequest)
			}
			w.unasked()
		}},
		{Number: 7, Title: "paths are compared with case, and no other rule is fallen through to", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(proxytest.Route("admin", []string{"/admin"}, proxytest.Identities("admins", adminID)))))
			w.everyWay("/ADMIN", http.StatusNotFound)
			w.everyWay("/Admin", http.StatusNotFound)
			w.unasked()
			w.apply(guarded(detect))
			w.everyWay("/ADMIN", http.StatusOK) // by the rule for everything
		}},
		{Number: 8, Title: "path parameters get the stricter verdict of both views", Run: targets(refused,
			"/admin;x=1", "/admin;", "/x;a/../admin", "/admin;x=1/y", "/;/admin", "/admin%3bx=1")},
		{Number: 9, Title: "targets are parsed by their form; authority and Host must agree", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			w.want(get("/admin/"), http.StatusForbidden)
			w.want("GET http://app HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusOK)
			w.want("GET http://app/admin HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusForbidden)
			w.want("GET http://other/public HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusBadRequest)
			w.want("GET http://app@other/public HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusBadRequest)
			w.want("GET * HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusBadRequest)
			w.want("GET app:80 HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusBadRequest)
			w.want("GET admin HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusBadRequest)
			w.want("CONNECT /admin HTTP/1.1\r\nHost: app\r\n\r\n", append(refused, http.StatusNotFound)...)
			w.want("CONNECT app:80 HTTP/1.1\r\nHost: other:80\r\n\r\n", append(refused, http.StatusNotFound)...)
			w.want("OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusOK, http.StatusNotFound, http.StatusBadRequest)
		}},
		{Number: 10, Title: "a fragment in a target gets 400; an escaped question mark stays one", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for _, target := range []string{"/x#/../admin", "/admin#", "/public#x", "/public?a#b", "/public?#", `/public?a\b`, "/public?\x80", "/public?a\x7fb"} {
				w.everyWay(target, http.StatusBadRequest)
			}
			w.everyWay("/admin?x", http.StatusForbidden)
			w.everyWay("/admin?/../public", http.StatusForbidden)
			w.unasked()
			w.everyWay("/public%3f/../../admin", refused...)
			a := w.ask(get("/public%3fx"))
			if a.status == http.StatusOK && !strings.EqualFold(w.app.last(t).target, "/public%3fx") {
				t.Errorf("/public%%3fx was forwarded as %q", w.app.last(t).target)
			}
		}},
		{Number: 11, Title: "prefixes match whole segments", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(proxytest.Route("adm", []string{"/adm"}, proxytest.Anyone("everybody"))), proxytest.Anyone("everybody")))
			w.everyWay("/admin", http.StatusNotFound)
			w.everyWay("/adm.in", http.StatusNotFound)
			w.unasked()
			w.everyWay("/adm", http.StatusOK)
			w.everyWay("/adm/in", http.StatusOK)
		}},
		{Number: 12, Title: "expressions match whole paths, in linear time", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(proxytest.Route("re", []string{"~/o[a-z]+n", "~/(a+)+(a|aa)+b"}, proxytest.Anyone("everybody"))), proxytest.Anyone("everybody")))
			for _, target := range []string{"/x/open", "/open/x", "/openx1", "/xopen", "/open%0a"} {
				w.everyWay(target, http.StatusNotFound, http.StatusBadRequest)
			}
			const long, tooLong = 50_000, 1_000_000
			w.want(get("/"+strings.Repeat("a", long)), http.StatusNotFound)
			w.want(get("/"+strings.Repeat("a", tooLong)), http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong)
			w.unasked()
			w.everyWay("/open", http.StatusOK)
		}},
		{Number: 13, Title: "the method of the wire decides, nothing that overrides it", Run: func(t *T) {
			match := &http_route.HttpRouteMatch{Path: proxytest.Path("/"), Method: &http_types.HttpMethod{Type: &http_types.HttpMethod_Registered_{Registered: http_types.HttpMethod_GET}}}
			w := newWorld(t, only(match))
			for _, raw := range []string{"get / HTTP/1.1", "Get / HTTP/1.1", "GET\x00 / HTTP/1.1", "BREW / HTTP/1.1", "GETX / HTTP/1.1", "G(T / HTTP/1.1"} {
				a := w.ask(raw + "\r\nHost: app\r\n\r\n")
				// A first line that is none is not HTTP, and refused by the port's list, which is empty.
				w.is(raw, a, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotFound, 0)
			}
			w.want("POST / HTTP/1.1\r\nHost: app\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n\r\n", http.StatusNotFound)
			w.want("DELETE / HTTP/1.1\r\nHost: app\r\nX-HTTP-Method: GET\r\n\r\n", http.StatusNotFound)
			w.untouched()
			w.want(get("/", "X-HTTP-Method-Override: DELETE"), http.StatusOK)
		}},
		{Number: 14, Title: "all values of a header are considered; what is ambiguous is denied", Run: func(t *T) {
			match := &http_route.HttpRouteMatch{Path: proxytest.Path("/"), Headers: []*http_route.HeaderMatch{{Name: "x-role", Value: &http_route.HeaderMatch_Exact{Exact: []byte("user")}}}}
			w := newWorld(t, only(match))
			for _, fields := range [][]string{
				{"X-Role: user", "X-Role: admin"}, {"X-Role: admin", "X-Role: user"}, {"X-Role: user, admin"}, {"X-Role: user,user"},
				{"X-Role: user", "x-role:"}, {"X-Role:"}, {"X-Role: USER"}, {"X-Role : user"}, {"X_Role: user"}, nil,
			} {
				w.want(get("/", fields...), http.StatusNotFound, http.StatusBadRequest)
			}
			w.untouched()
			w.want(get("/", "x-rOLE: user"), http.StatusOK)
		}},
		{Number: 15, Title: "of a query parameter the first value counts; malformed ones match nothing", Run: func(t *T) {
			match := &http_route.HttpRouteMatch{Path: proxytest.Path("/"), QueryParams: []*http_route.QueryParamMatch{{Name: "role", Value: &http_route.QueryParamMatch_Exact{Exact: "a b"}}}}
			w := newWorld(t, only(match))
			for _, query := range []string{"role=x&role=a+b", "role=a%zz+b", "role=a+b;x", "x;role=a+b", "role=a", "ROLE=a+b", "role", "rol%65=&role=a+b", "role=a%20b%"} {
				w.everyWay("/?"+query, http.StatusNotFound, http.StatusBadRequest)
			}
			w.unasked()
			for _, query := range []string{"role=a+b", "role=a%20b", "rol%65=a+b", "role=a+b&role=x"} {
				w.everyWay("/?"+query, http.StatusOK)
			}
		}},
		{Number: 16, Title: "//host/path is a path, not an authority", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			w.everyWay("//evil/admin", http.StatusOK)
			if r := w.app.last(t); r.host != "app" || r.target != "/evil/admin" {
				t.Errorf("the application saw %s of %s, want /evil/admin of app", r.target, r.host)
			}
			w.everyWay("//admin/x", refused...)
			route := proxytest.Route("by-host", []string{"/"}, proxytest.Anyone("everybody"))
			route.Hosts = []*http_route.HostMatch{{Match: &http_route.HostMatch_Exact{Exact: "evil"}}}
			w.apply(proxytest.Server(detect(route), proxytest.Anyone("everybody")))
			before := w.app.count()
			w.want(get("//evil/public"), http.StatusNotFound)
			if w.app.count() != before {
				t.Errorf("the application got a connection")
			}
		}},
	}
}

// within is how long a short time-out of a policy is; clients that must exceed it wait for more.
const (
	within = 300 * time.Millisecond
	beyond = 2 * within
)
