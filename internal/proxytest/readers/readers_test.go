package readers

import "testing"

// Without readers that disagree, who asks them would learn nothing.
func TestReadersDisagreeWhereServersDo(t *testing.T) {
	for target, who := range map[string]string{
		"//admin": "nginx", "/x/../admin": "nginx", "/%61dmin": "go", "/x%2f..%2fadmin": "nginx", `/x/..\admin`: "lenient",
		"/admin;x=1": "lenient", "/%c0%ae%c0%ae/admin": "lenient", "/admin%00.html": "lenient", "/admin#x": "nginx",
	} {
		if made := Of(target); !Under(made[who], "/admin") {
			t.Errorf("%s: %v, want that %s reads /admin", target, made, who)
		}
	}
	for name, p := range Of("/%252e%252e/adm") {
		if Under(p, "/admin") || Under(p, "/adm") {
			t.Errorf("%s decodes twice: %q", name, p)
		}
	}
}
