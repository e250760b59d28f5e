package abuse

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// views are the paths that applications make of a request target.
func views(target string) map[string]string {
	p, _, _ := strings.Cut(target, "?")
	if rest, ok := strings.CutPrefix(p, "http://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			p = rest[i:]
		} else {
			p = "/"
		}
	}
	made := map[string]string{"nginx": nginxView(p), "lenient": lenientView(p)}
	if u, err := url.ParseRequestURI(p); err == nil {
		made["go"] = u.Path
		made["go mux"] = path.Clean("/" + u.Path)
	}
	return made
}

// nginxView decodes once, then merges slashes and resolves dot segments.
func nginxView(p string) string {
	p, _, _ = strings.Cut(p, "#")
	return resolve(decoded(p))
}

// lenientView also takes backslashes for slashes, cuts parameters off segments,
// reads overlong dots and slashes, and ends at a NUL.
func lenientView(p string) string {
	p, _, _ = strings.Cut(p, "#")
	p = decoded(p)
	p = strings.NewReplacer("\xc0\xae", ".", "\xc0\xaf", "/", "\\", "/").Replace(p)
	p, _, _ = strings.Cut(p, "\x00")
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return resolve(strings.Join(segments, "/"))
}

// decoded decodes escapes once and leaves broken ones.
func decoded(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if c, err := url.PathUnescape(p[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func resolve(p string) string { return path.Clean("/" + p) }

// under tells whether a path is the folder or below it.
func under(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// Without views that disagree the oracle would prove nothing.
func TestViewsDisagreeWhereServersDo(t *testing.T) {
	for target, who := range map[string]string{
		"//admin": "nginx", "/x/../admin": "nginx", "/%61dmin": "go", "/x%2f..%2fadmin": "nginx", `/x/..\admin`: "lenient",
		"/admin;x=1": "lenient", "/%c0%ae%c0%ae/admin": "lenient", "/admin%00.html": "lenient", "/admin#x": "nginx",
	} {
		if made := views(target); !under(made[who], "/admin") {
			t.Errorf("%s: %v, want that %s reads /admin", target, made, who)
		}
	}
	for name, p := range views("/%252e%252e/adm") {
		if under(p, "/admin") || under(p, "/adm") {
			t.Errorf("%s decodes twice: %q", name, p)
		}
	}
}
