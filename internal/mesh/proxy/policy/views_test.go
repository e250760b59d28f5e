package policy

import (
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/proxytest/readers"
)

// routePaths are what the API server accepts as the path of a route.
var routePaths = regexp.MustCompile(`\A/([A-Za-z0-9/._~!$&'()*+,:=@-]|%[0-9a-fA-F]{2})*\z`)

// seenAs is a path as applications make it: escapes decoded, cleaned but for the
// slash at its end, by which an exact route tells two paths apart.
func seenAs(view, sent string) string {
	if view = path.Clean("/" + view); view != "/" && strings.HasSuffix(sent, "/") {
		view += "/"
	}
	return view
}

// views are the paths that applications make of what they are sent, slash included.
func views(sent string) map[string]string {
	made := readers.Of(sent)
	for who, view := range made {
		made[who] = seenAs(view, sent)
	}
	return made
}

// FuzzViewsOfPaths: what an application takes a forwarded path for is what the path
// was judged as. One route is for nobody and another for everybody; no application,
// reading as nginx, as Go or leniently, is given what it takes for the former.
func FuzzViewsOfPaths(f *testing.F) {
	for _, guard := range []string{"/admin", "/a,b", "/a%5Bb", "/%C3%A9", "/x/%7Ey", "/"} {
		for _, sent := range []string{guard, "/" + guard, "/x/.." + guard, guard + "/.", "/%61dmin", "/a%2cb", "/a[b", "/%c3%a9/", "/admin;x", "/admin%2f..", "/x/%7ey", "/%2561dmin", "/a%3fb"} {
			f.Add(sent, guard, sent > guard)
		}
	}
	f.Fuzz(func(t *testing.T, sent, guard string, prefix bool) {
		if sent == "*" {
			return // names the server and no path: OPTIONS has it alone, which the relays see to
		}
		normalGuard, ok := NormalPath([]byte(guard), nil)
		if !ok || !routePaths.MatchString(guard) || strings.ContainsAny(sent, "?") {
			return
		}
		guarded := seenAs(readers.Of(string(normalGuard))["nginx"], string(normalGuard))
		match := exact(guard)
		within := func(view string) bool { return view == guarded }
		if prefix {
			match = pathPrefixed(guard)
			folder := strings.TrimRight(guarded, "/")
			if folder == "" {
				return // as wide as the other
			}
			within = func(view string) bool { return readers.Under(view, folder) }
		}
		open := route("HTTPRoute", "open", &http_route.HttpRouteMatch{Path: pathPrefixed("/")})
		open.Authorizations = []*pb.Authz{grant("everybody", "0.0.0.0/0")}
		p := mustParse(t, detectServer([]*pb.HttpRoute{route("HTTPRoute", "nobody", &http_route.HttpRouteMatch{Path: match}), open}), Dialect{})
		d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: sent}.head())
		if d.Verdict == Ambiguous || d.Verdict == NotFound {
			return
		}
		given := sent
		if d.Path != nil {
			given = string(d.Path)
		}
		made := views(given)
		for who, view := range made {
			if d.Verdict == Allow && within(view) {
				t.Errorf("%q is for nobody; %q passed as %q, which %s takes for %q", guard, sent, given, who, view)
			}
			if d.Verdict == Deny && !within(view) {
				t.Errorf("%q is for nobody; %q was denied, which %s takes for %q", guard, given, who, view)
			}
			if view != made["nginx"] {
				t.Errorf("%q passed as %q, which %s takes for %q and nginx for %q", sent, given, who, view, made["nginx"])
			}
		}
	})
}
