package images_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/meshproof/meshproof/workloads/images"
)

// serve is a registry in memory; the result is its host name and port.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	handler := http.Handler(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestAPushedImageIsWhatTheArchiveHolds(t *testing.T) {
	bin, host := plainBin(t), serve(t, nil)
	var told []images.Pushed
	options := images.PushOptions{Pushed: func(p images.Pushed) { told = append(told, p) }}
	pushed, err := images.Push(t.Context(), host+"/mirror/", bin, options)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pushed, told); diff != "" {
		t.Errorf("told as it went (-returned +told):\n%s", diff)
	}
	index, _ := unpack(t, archive(t, images.Save, bin))
	var want, got []images.Pushed
	for _, described := range index.Manifests {
		reference := images.Relocate(described.Annotations["io.containerd.image.name"], host+"/mirror")
		want = append(want, images.Pushed{Reference: reference, Digest: described.Digest.String()})
	}
	for _, one := range pushed {
		got = append(got, one)
		for _, reference := range []string{one.Reference, one.String()} {
			parsed, err := name.ParseReference(reference)
			if err != nil {
				t.Fatal(err)
			}
			image, err := remote.Image(parsed)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(image); err != nil {
				t.Errorf("%s: %v", reference, err)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pushed (-want +got):\n%s", diff)
	}
}

func TestWhatIsWrongWithAPushIsSaidInOneLine(t *testing.T) {
	bin := plainBin(t)
	denied := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			http.Error(w, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"two\\nlines\"}]}", http.StatusUnauthorized)
		})
	})
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, row := range []struct {
		name, registry string
		bin            string
		asked          []string
		kind           any
		want           string
	}{
		{"no registry", "", bin, nil, new(*images.RegistryNameError), `registry "": want a host name such as`},
		{"a user's name", "somebody", bin, nil, new(*images.RegistryNameError), `registry "somebody": want a host name such as`},
		{"no name of a registry", "Not A Registry:5000", bin, nil, new(*images.RegistryNameError), `registry "Not A Registry:5000": could not parse reference`},
		{"credentials are missing", denied, bin, nil, new(*images.PushError), "push " + denied + "/meshproof/agent:dev: the registry refuses (401); log in"},
		{"nobody listens", strings.TrimPrefix(closed.URL, "http://"), bin, nil, new(*images.PushError), "connection refused"},
		{"no such image", denied, bin, []string{"nginx"}, new(*images.UnknownError), `image "nginx" is not one of`},
		{"nothing is built", denied, t.TempDir(), nil, new(*images.NotBuiltError), "run make build"},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := images.PushOptions{Keychain: authn.NewMultiKeychain()}
			pushed, err := images.Push(t.Context(), row.registry, row.bin, options, row.asked...)
			if err == nil || len(pushed) > 0 || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("pushed %v, %v, want one line with %q", pushed, err, row.want)
			}
			if !errors.As(err, row.kind) {
				t.Errorf("%v is a %T, want %T", err, err, row.kind)
			}
		})
	}
}

func TestCredentialsAreTheUsersOwn(t *testing.T) {
	asked := make(chan string, 1000)
	host := serve(t, func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if user == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			asked <- user + ":" + password
			inner.ServeHTTP(w, r)
		})
	})
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(`{"auths":{"`+host+`":{"auth":"bWU6c2VjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", folder)
	if _, err := images.Push(t.Context(), host, plainBin(t), images.PushOptions{}, "meshproof/agent"); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "me:secret" {
		t.Errorf("asked as %q", got)
	}
}

func TestAPushEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	host := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
	})
	if _, err := images.Push(ctx, host, plainBin(t), images.PushOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestAListTellsWhatIsMissing(t *testing.T) {
	bin := plainBin(t)
	if err := os.Remove(filepath.Join(bin, "meshproof-grpcurl")); err != nil {
		t.Fatal(err)
	}
	all, err := images.List(bin)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(images.Everything()) {
		t.Errorf("%d images", len(all))
	}
	for _, one := range all {
		missing := one.Repository == "meshproof/grpcurl"
		if missing != (len(one.Missing) == 1) || missing != (one.Digest == "") || missing != (one.Size == 0) || missing != (one.Architecture == "") {
			t.Errorf("%+v", one)
		}
	}
	index, _ := unpack(t, archive(t, images.Save, bin, "meshproof/agent"))
	if all[0].Digest != index.Manifests[0].Digest.String() {
		t.Errorf("listed as %s, saved as %s", all[0].Digest, index.Manifests[0].Digest)
	}
}
