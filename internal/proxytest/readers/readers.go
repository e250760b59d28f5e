// Package readers reads the path of a request as applications of several makes
// do, so that tests can ask whether what was judged is what is then served.
//
// A request target goes in; out comes, by the name of who reads it, the path that
// it is taken for: escapes decoded, dot segments resolved, without an end slash.
// It takes any bytes and refuses nothing, as careless servers do.
package readers

import (
	"net/url"
	"path"
	"strings"
)

// Of are the paths that applications make of a request target. Go's own reader is
// missing where Go refuses the target; it alone leaves dot segments and the slash
// at the end in place, and its mux resolves them.
func Of(target string) map[string]string {
	p, _, _ := strings.Cut(target, "?")
	if rest, ok := strings.CutPrefix(p, "http://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			p = rest[i:]
		} else {
			p = "/"
		}
	}
	made := map[string]string{"nginx": nginx(p), "lenient": lenient(p)}
	if u, err := url.ParseRequestURI(p); err == nil {
		made["go"] = u.Path
		made["go mux"] = path.Clean("/" + u.Path)
	}
	return made
}

// nginx decodes once, then merges slashes and resolves dot segments.
func nginx(p string) string {
	p, _, _ = strings.Cut(p, "#")
	return resolve(decoded(p))
}

// lenient also takes backslashes for slashes, cuts parameters off segments, reads
// overlong dots and slashes, and ends at a NUL.
func lenient(p string) string {
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

// Under tells whether a path is the folder or below it.
func Under(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }
