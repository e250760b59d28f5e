package images_test

import (
	"errors"
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

func TestAnUnknownImageIsAnsweredWithWhatWasPerhapsMeant(t *testing.T) {
	for reference, want := range map[string]string{
		"agent":                    "meshproof/agent",
		"meshproof/agnet:dev":      "meshproof/agent",
		"emojivoto-voting":         "docker.l5d.io/buoyantio/emojivoto-voting-svc",
		"buoyantio/emojivoto-web":  "docker.l5d.io/buoyantio/emojivoto-web",
		"meshproof/grpcrul":        "meshproof/grpcurl",
		"meshprof/meshproof":       "meshproof/meshproof",
		"nginx":                    "",
		"":                         "",
		"registry.example/library": "",
	} {
		_, err := images.Find(reference)
		var unknown *images.UnknownError
		if !errors.As(err, &unknown) || unknown.Suggestion != want {
			t.Errorf("%q: %v, want the suggestion %q", reference, err, want)
		}
	}
}

func TestWhatIsNobodysImageIsStoodInFor(t *testing.T) {
	for reference, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "nginx:1.27": "docker.io/library/nginx:1.27", "registry.example:5000/shop/cart@sha256:" + strings.Repeat("0", 64): "registry.example:5000/shop/cart@sha256:" + strings.Repeat("0", 64),
		"meshproof/agent": "",
	} {
		image, err := images.FindOrStandIn(reference)
		if err != nil || image.StandsFor != want {
			t.Errorf("%s is stood in for as %q, %v", reference, image.StandsFor, err)
		}
		again, err := images.FindOrStandIn(image.Repository)
		if err != nil || again.Repository != image.Repository || again.StandsFor != image.StandsFor {
			t.Errorf("%s is %s under its own name, %v", image.Repository, again.Repository, err)
		}
	}
	for _, reference := range []string{"", "meshproof/agnet", "not a name"} {
		if image, err := images.FindOrStandIn(reference); err == nil {
			t.Errorf("%q is stood in for by %s", reference, image.Repository)
		}
	}
}

func TestEveryImageHoldsWhatItStarts(t *testing.T) {
	for _, image := range images.Everything() {
		t.Run(image.Repository, func(t *testing.T) {
			if len(image.Entrypoint) == 0 || image.Files[image.Entrypoint[0]] == "" {
				t.Errorf("entrypoint %q is not among the files %v", image.Entrypoint, image.Files)
			}
			for path := range image.Files {
				if !strings.HasPrefix(path, "/") {
					t.Errorf("%s is not absolute", path)
				}
			}
			if len(image.Tags) == 0 || image.Purpose == "" {
				t.Errorf("tags %q, purpose %q", image.Tags, image.Purpose)
			}
		})
	}
}

// What does not run as the proxy must not have its uid, which the interception
// lets pass; 0 would fail runAsNonRoot.
func TestOnlyTheAgentsImageHasTheProxysUser(t *testing.T) {
	for _, image := range images.Everything() {
		want := int64(images.User)
		if image.Repository == "meshproof/agent" {
			want = images.ProxyUser
		}
		if image.User != want {
			t.Errorf("%s: user %d, want %d", image.Repository, image.User, want)
		}
	}
}

func TestAnOrdinaryRunLoadsAllButTheCommandLine(t *testing.T) {
	var extra []string
	all := images.All()
	for _, image := range images.Everything() {
		if !slices.ContainsFunc(all, func(i images.Image) bool { return i.Repository == image.Repository }) {
			extra = append(extra, image.Repository)
		}
	}
	if !slices.Equal(extra, []string{"meshproof/meshproof"}) {
		t.Errorf("extra images: %q", extra)
	}
}
