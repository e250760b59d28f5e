package images_test

import (
	"testing"

	"github.com/meshproof/meshproof/workloads/images"
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
		if got := images.Relocate(row.reference, row.registry); got != row.want {
			t.Errorf("%s in %q is %s, want %s", row.reference, row.registry, got, row.want)
		}
	}
}

func TestAFullNameIsWhatRuntimesKnowAnImageBy(t *testing.T) {
	for reference, want := range map[string]string{
		"busybox":             "docker.io/library/busybox:latest",
		"networld/grpcurl":    "docker.io/networld/grpcurl:latest",
		"meshproof/agent:dev": "docker.io/meshproof/agent:dev",
		"docker.l5d.io/buoyantio/emojivoto-web:v11": "docker.l5d.io/buoyantio/emojivoto-web:v11",
		"localhost:5000/a@sha256:01":                "localhost:5000/a@sha256:01",
	} {
		if got := images.FullName(reference); got != want {
			t.Errorf("%s is %s, want %s", reference, got, want)
		}
	}
}
