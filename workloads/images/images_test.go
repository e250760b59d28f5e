package images_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/workloads/images"
)

func TestAReferenceIsFoundWhateverItsTagOrDigest(t *testing.T) {
	for _, reference := range []string{"meshproof/agent", "meshproof/agent:v1", "docker.io/meshproof/agent:v1",
		"meshproof/agent@sha256:0123", "meshproof/agent:v1@sha256:0123"} {
		if image, err := images.Find(reference); err != nil || image.Repository != "meshproof/agent" {
			t.Errorf("%s is %q, %v", reference, image.Repository, err)
		}
	}
	for _, reference := range []string{"", "nginx", "meshproof/agent-x", "registry.example:5000/meshproof/agent"} {
		if image, err := images.Find(reference); err == nil {
			t.Errorf("%q is taken for %s", reference, image.Repository)
		}
	}
}

func TestEveryImageHoldsWhatItStarts(t *testing.T) {
	for _, image := range images.All() {
		t.Run(image.Repository, func(t *testing.T) {
			if len(image.Entrypoint) == 0 || image.Files[image.Entrypoint[0]] == "" {
				t.Errorf("entrypoint %q is not among the files %v", image.Entrypoint, image.Files)
			}
			for path := range image.Files {
				if !strings.HasPrefix(path, "/") {
					t.Errorf("%s is not absolute", path)
				}
			}
			// 0 would fail runAsNonRoot, 2102 would escape the interception.
			if slices.Contains([]int64{0, 2102}, image.User) {
				t.Errorf("user %d", image.User)
			}
		})
	}
}
