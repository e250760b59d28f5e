package images

import (
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/meshproof/meshproof/workloads/images/reference"
)

const (
	// compressionLevel of layers that leave the machine.
	compressionLevel = gzip.DefaultCompression

	operatingSystem = "linux"
	searchPath      = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	sourceURL       = "https://github.com/meshproof/meshproof"
	licence         = "Apache-2.0"
)

// builder makes images, and each layer once.
type builder struct {
	bin      string
	compress bool
	programs map[string]program // by name
}

// program is a binary that has been made a layer.
type program struct {
	binary binary
	layer  *layer
}

func newBuilder(bin string, compress bool) *builder {
	return &builder{bin: bin, compress: compress, programs: map[string]program{}}
}

// images makes the images of entries, in their order. Layers, which take nearly
// all of the time, are made on all processors. Errors: *NotBuiltError, and others
// that name the image.
func (b *builder) images(entries []Image) ([]v1.Image, error) {
	var lock sync.Mutex
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	started := map[string]bool{}
	for _, entry := range entries {
		for _, name := range programsOf(entry) {
			if _, made := b.programs[name]; made || started[name] {
				continue
			}
			started[name] = true
			group.Go(func() error {
				made, err := b.program(entry, name)
				lock.Lock()
				defer lock.Unlock()
				b.programs[name] = made
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []v1.Image
	for _, entry := range entries {
		image, err := b.image(entry)
		if err != nil {
			return nil, err
		}
		all = append(all, image)
	}
	return all, nil
}

// Check finds out, without reading them, whether the programs of the named images,
// or of All, can become images. Errors are those of Archive.
func Check(bin string, repositories ...string) error {
	entries, err := selected(repositories)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		for _, name := range programsOf(entry) {
			if _, err := find(entry, bin, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// programsOf lists the names of an image's binaries.
func programsOf(entry Image) []string { return slices.Compact(slices.Sorted(maps.Values(entry.Files))) }

// selected resolves names to entries of the table, in its order and each once;
// none means All.
func selected(repositories []string) ([]Image, error) {
	if len(repositories) == 0 {
		return All(), nil
	}
	wanted := map[string]bool{}
	for _, name := range repositories {
		image, err := Find(name)
		if err != nil {
			return nil, err
		}
		if _, tag, digest := reference.Split(name); digest != "" || tag != "" && !slices.Contains(image.Tags, tag) {
			return nil, &UnknownError{Reference: name, Suggestion: image.References()[0]}
		}
		wanted[image.Repository] = true
	}
	return slices.DeleteFunc(Everything(), func(image Image) bool { return !wanted[image.Repository] }), nil
}

// home is where every image has a binary itself; other paths are links to it. So
// all images share one layer for each binary.
func home(name string) string {
	for _, image := range Everything() {
		if len(image.Entrypoint) > 0 && image.Files[image.Entrypoint[0]] == name {
			return image.Entrypoint[0]
		}
	}
	for _, image := range Everything() {
		for _, path := range sortedKeys(image.Files) {
			if image.Files[path] == name {
				return path
			}
		}
	}
	panic("no image holds " + name)
}

// image makes the image of an entry whose programs have been made layers.
func (b *builder) image(entry Image) (v1.Image, error) {
	links := map[string]string{}
	var layers []mutate.Addendum
	add := func(l *layer, what string) {
		layers = append(layers, mutate.Addendum{Layer: l, MediaType: l.media,
			History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "meshproof images", Comment: what}})
	}
	architecture := ""
	for _, name := range programsOf(entry) {
		program := b.programs[name]
		add(program.layer, name)
		if architecture != "" && architecture != program.binary.architecture {
			return nil, fmt.Errorf("image %s: %s is for %s, but another of its programs is for %s",
				entry.Repository, program.binary.source, program.binary.architecture, architecture)
		}
		architecture = program.binary.architecture
		for path, held := range entry.Files {
			if held == name && path != program.binary.target {
				links[path] = program.binary.target
			}
		}
	}
	if len(links) > 0 {
		made, err := linkLayer(links, b.compress)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", entry.Repository, err)
		}
		add(made, "links")
	}
	made, err := assemble(entry, architecture, layers)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", entry.Repository, err)
	}
	return made, nil
}

func (b *builder) program(entry Image, name string) (program, error) {
	binary, err := find(entry, b.bin, name)
	if err != nil {
		return program{}, err
	}
	made, err := fileLayer(binary, b.compress)
	if err != nil {
		return program{}, fmt.Errorf("image %s: %w", entry.Repository, err)
	}
	return program{binary, made}, nil
}

// find looks for a program of an image.
func find(entry Image, bin, name string) (binary, error) {
	found, err := openBinary(filepath.Join(bin, name), home(name))
	if errors.Is(err, fs.ErrNotExist) {
		return binary{}, &NotBuiltError{Image: entry.Repository, Err: err}
	}
	if err != nil {
		return binary{}, fmt.Errorf("image %s: %w", entry.Repository, err)
	}
	return found, nil
}

func assemble(entry Image, architecture string, layers []mutate.Addendum) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	base, err := mutate.ConfigFile(base, &v1.ConfigFile{
		OS: operatingSystem, Architecture: architecture, Created: v1.Time{Time: epoch},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: entry.Entrypoint, Cmd: entry.Cmd, Env: []string{searchPath},
			WorkingDir: cmp.Or(entry.WorkingDir, "/"), User: strconv.FormatInt(entry.User, 10), Labels: labels(entry),
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(base, layers...)
}

// labels are the image specification's annotation keys, which are customary as
// labels too.
func labels(entry Image) map[string]string {
	const key = "org.opencontainers.image."
	return map[string]string{
		key + "title":       entry.Repository[strings.LastIndex(entry.Repository, "/")+1:],
		key + "description": entry.Purpose,
		key + "source":      sourceURL,
		key + "version":     entry.Tags[0],
		key + "licenses":    licence,
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
