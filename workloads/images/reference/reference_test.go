package reference_test

import (
	"testing"

	"github.com/meshproof/meshproof/workloads/images/reference"
)

func TestRelocationReplacesTheRegistryAndNothingElse(t *testing.T) {
	for _, row := range []struct{ reference, registry, want string }{
		{"meshproof/agent:dev", "", "meshproof/agent:dev"},
		{"meshproof/agent:dev", "registry.example", "registry.example/meshproof/agent:dev"},
		{"meshproof/agent", "localhost:5000", "localhost:5000/meshproof/agent"},
		{"docker.l5d.io/buoyantio/emojivoto-web:v11", "registry.example", "registry.example/buoyantio/emojivoto-web:v11"},
		{"docker.io/meshproof/agent:dev", "registry.example", "registry.example/meshproof/agent:dev"},
		{"docker.io/library/busybox", "registry.example", "registry.example/busybox"},
		{"busybox", "registry.example", "registry.example/busybox"},
		{"localhost/a:1", "registry.example", "registry.example/a:1"},
		{"other:5000/a/b:1", "registry.example", "registry.example/a/b:1"},
		{"a/b@sha256:01", "registry.example", "registry.example/a/b@sha256:01"},
		{"a/b:1@sha256:01", "registry.example", "registry.example/a/b:1@sha256:01"},
		// A registry may have a path, and a slash too many.
		{"a/b:1", "registry.example/mirror/", "registry.example/mirror/a/b:1"},
		// Again changes nothing.
		{"registry.example/mirror/a/b:1", "registry.example/mirror", "registry.example/mirror/a/b:1"},
	} {
		if got := reference.Relocate(row.reference, row.registry); got != row.want {
			t.Errorf("%s in %q is %s, want %s", row.reference, row.registry, got, row.want)
		}
	}
}

func TestAFullNameIsWhatRuntimesKnowAnImageBy(t *testing.T) {
	for name, want := range map[string]string{
		"busybox":             "docker.io/library/busybox:latest",
		"networld/grpcurl":    "docker.io/networld/grpcurl:latest",
		"meshproof/agent:dev": "docker.io/meshproof/agent:dev",
		"docker.l5d.io/buoyantio/emojivoto-web:v11": "docker.l5d.io/buoyantio/emojivoto-web:v11",
		"localhost:5000/a@sha256:01":                "localhost:5000/a@sha256:01",
	} {
		if got := reference.Full(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestAReferenceIsTakenApart(t *testing.T) {
	const digest = "sha256:0123456789012345678901234567890101234567890123456789012345678901"
	for _, row := range []struct {
		name    string
		version string
		valid   bool
	}{
		{"meshproof/agent", "latest", true},
		{"meshproof/agent:dev", "dev", true},
		{"localhost:5000/agent", "latest", true},
		{"localhost:5000/mesh/agent:v1.2", "v1.2", true},
		{"a/b@" + digest, digest, true},
		{"a/b:v1@" + digest, "v1", true},
		{"", "latest", false},
		{"a b", "latest", false},
		{"a/B", "latest", false},
		{"a:b c", "b c", false},
		{"a/b@sha256:01", "sha256:01", false},
		{"a//b", "latest", false},
	} {
		if got := reference.Version(row.name); got != row.version {
			t.Errorf("%q has the version %q, want %q", row.name, got, row.version)
		}
		if got := reference.Valid(row.name); got != row.valid {
			t.Errorf("%q is valid: %v", row.name, got)
		}
	}
}

func TestARegistryIsKnownByItsHostName(t *testing.T) {
	for name, want := range map[string]string{"a/b": "", "a": "", "a.example/b": "a.example", "localhost/b": "localhost", "a:5000/b": "a:5000", "a:5000": ""} {
		if got := reference.Registry(name); got != want {
			t.Errorf("%s is in %q, want %q", name, got, want)
		}
	}
}
