package images

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/meshproof/meshproof/workloads/images/reference"
)

// PushOptions say how to talk to a registry.
type PushOptions struct {
	// PlainHTTP is for registries without TLS. Those on loopback and private
	// addresses are asked without TLS anyway.
	PlainHTTP bool
	// Keychain holds the credentials; nil is the user's own, as docker login and
	// podman login leave them.
	Keychain authn.Keychain
	// Pushed is told each reference as soon as the registry has it; nil: nobody.
	Pushed func(Pushed)
}

// Pushed is a reference that a registry has.
type Pushed struct {
	// Reference is the name in the registry, with a tag.
	Reference string `json:"reference"`
	// Digest is that of the manifest, such as sha256:….
	Digest string `json:"digest"`
}

// String is the reference by which exactly this image can be pulled.
func (p Pushed) String() string {
	repository, _, _ := reference.Split(p.Reference)
	return repository + "@" + p.Digest
}

// RegistryNameError is about a registry whose name none can have.
type RegistryNameError struct {
	Registry string
	Err      error
}

func (e *RegistryNameError) Error() string {
	return fmt.Sprintf("registry %q: %v", e.Registry, e.Err)
}
func (e *RegistryNameError) Unwrap() error { return e.Err }

// PushError is what a registry, or the way to it, has against an image.
type PushError struct {
	Reference string
	Err       error
}

func (e *PushError) Error() string {
	// Some registries answer with a page.
	const limit = 400
	text := strings.Join(strings.Fields(reason(e.Err)), " ")
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	return fmt.Sprintf("push %s: %s", e.Reference, text)
}
func (e *PushError) Unwrap() error { return e.Err }

// reason adds a remedy where there is one.
func reason(err error) string {
	var refused *transport.Error
	var mismatch tls.RecordHeaderError
	switch {
	case errors.As(err, &refused) && (refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden):
		return fmt.Sprintf("the registry refuses (%d); log in to it as docker login does: %v", refused.StatusCode, err)
	case errors.As(err, &mismatch), errors.Is(err, http.ErrSchemeMismatch):
		return "the registry does not speak TLS; use --plain-http if that is meant"
	}
	return err.Error()
}

// Push puts the named images, or All of them, into a registry under every
// reference that manifests use, each as Relocate says. It stops at the first
// error and returns what the registry had by then. Errors: *UnknownError,
// *NotBuiltError, *RegistryNameError, *PushError.
func Push(ctx context.Context, registry, bin string, options PushOptions, repositories ...string) ([]Pushed, error) {
	entries, err := selected(repositories)
	if err != nil {
		return nil, err
	}
	var parsing []name.Option
	if options.PlainHTTP {
		parsing = append(parsing, name.Insecure)
	}
	targets := make([][]name.Reference, len(entries))
	for i, entry := range entries {
		for _, image := range entry.References() {
			target, err := parseIn(registry, image, parsing)
			if err != nil {
				return nil, err
			}
			targets[i] = append(targets[i], target)
		}
	}
	made, err := newBuilder(bin, true).images(entries)
	if err != nil {
		return nil, err
	}
	keychain := options.Keychain
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	pusher, err := remote.NewPusher(remote.WithAuthFromKeychain(keychain), remote.WithUserAgent("meshproof"))
	if err != nil {
		return nil, fmt.Errorf("prepare a push: %w", err)
	}
	var done []Pushed
	for i, image := range made {
		digest, err := image.Digest()
		if err != nil {
			return done, fmt.Errorf("image %s: %w", entries[i].Repository, err)
		}
		for _, target := range targets[i] {
			if err := pusher.Push(ctx, target, image); err != nil {
				return done, &PushError{target.Name(), errors.Join(ctx.Err(), err)}
			}
			one := Pushed{Reference: target.Name(), Digest: digest.String()}
			done = append(done, one)
			if options.Pushed != nil {
				options.Pushed(one)
			}
		}
	}
	return done, nil
}

func parseIn(registry, image string, options []name.Option) (name.Reference, error) {
	// Without a host name the reference would go to the default registry, which
	// nobody has asked for.
	if reference.Registry(strings.TrimSuffix(registry, "/")+"/") == "" {
		return nil, &RegistryNameError{registry, errors.New("want a host name such as registry.example or localhost:5000, perhaps with a path")}
	}
	target, err := name.ParseReference(Relocate(image, registry), options...)
	if err != nil {
		return nil, &RegistryNameError{registry, err}
	}
	return target, nil
}

// Listed is an image as `images list` tells it.
type Listed struct {
	Image        `json:"-"`
	References   []string `json:"references"`
	Purpose      string   `json:"purpose"`
	User         int64    `json:"user"`
	Architecture string   `json:"architecture,omitempty"`
	// Size in bytes of everything that is pulled, and the digest as pushed. Empty
	// when Missing.
	Size   int64  `json:"size,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Missing are the programs that bin lacks.
	Missing []string `json:"missing,omitempty"`
}

// List tells the whole table, and of each image that can be made what it would be.
func List(bin string) ([]Listed, error) {
	var all []Listed
	var complete []Image
	for _, entry := range Everything() {
		one := Listed{Image: entry, References: entry.References(), Purpose: entry.Purpose, User: entry.User}
		for _, program := range programsOf(entry) {
			if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
				one.Missing = append(one.Missing, program)
			}
		}
		if len(one.Missing) == 0 {
			complete = append(complete, entry)
		}
		all = append(all, one)
	}
	made, err := newBuilder(bin, true).images(complete)
	if err != nil {
		return nil, err
	}
	next := 0
	for i := range all {
		if len(all[i].Missing) > 0 {
			continue
		}
		if err := describe(&all[i], made[next]); err != nil {
			return nil, fmt.Errorf("image %s: %w", all[i].Repository, err)
		}
		next++
	}
	return all, nil
}

func describe(one *Listed, image v1.Image) error {
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	one.Digest, one.Architecture, one.Size = digest.String(), config.Architecture, manifest.Config.Size
	for _, layer := range manifest.Layers {
		one.Size += layer.Size
	}
	return nil
}
