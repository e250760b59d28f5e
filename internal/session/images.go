package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/images"
)

// archive is this project's images in a file, written while the cluster comes
// up. Its methods are for one goroutine.
type archive struct {
	written chan struct{}
	path    string
	err     error
}

// archive begins to write the archive when the provider's clusters take one and
// no registry has the images.
func (s *session) archive(ctx context.Context) *archive {
	a := &archive{written: make(chan struct{})}
	if _, ok := s.Provider.(cluster.ImageTaker); !ok || s.Mesh.Registry != "" {
		close(a.written)
		return a
	}
	programs, err := programsFolder(s.Programs)
	if err == nil {
		err = images.Check(programs)
	}
	if err != nil {
		a.err = &cluster.SetupError{Cause: "make the images that the cluster needs", Err: err}
		close(a.written)
		return a
	}
	go func() {
		defer close(a.written)
		a.path, a.err = writeArchive(ctx, programs)
	}()
	return a
}

// refused is why there will be no archive, as far as that is known at once: then
// there is no use in making a cluster.
func (a *archive) refused() error {
	select {
	case <-a.written:
		return a.err
	default:
		return nil
	}
}

// programsFolder is where this project's programs are, by default beside the one
// that runs.
func programsFolder(programs string) (string, error) {
	if programs != "" {
		return programs, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's folder: %w", err)
	}
	return filepath.Dir(executable), nil
}

func writeArchive(ctx context.Context, programs string) (path string, err error) {
	file, err := os.CreateTemp("", "meshproof-images-*.tar")
	if err != nil {
		return "", fmt.Errorf("make a file for the images: %w", err)
	}
	err = errors.Join(images.Archive(file, programs), file.Close(), ctx.Err())
	if err != nil {
		return "", errors.Join(fmt.Errorf("write the images: %w", err), os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// remove waits for the writer and removes the file.
func (a *archive) remove() {
	<-a.written
	if a.path != "" {
		_ = os.Remove(a.path)
	}
}

// load brings the images into a cluster that takes them.
func (s *session) load(ctx context.Context, made cluster.Cluster, a *archive) error {
	loader, ok := made.(cluster.ImageLoader)
	if !ok || s.capabilities.LocalImages {
		if len(s.Archives) > 0 {
			return &cluster.SetupError{Cause: fmt.Sprintf("load images into the %s cluster: it takes none", s.Provider.Kind()), Remedy: "push them to a registry and name it with --registry, or use --cluster kind"}
		}
		return nil
	}
	began := time.Now()
	<-a.written
	if a.err != nil {
		return a.err
	}
	archives := slices.Clone(s.Archives)
	if a.path != "" {
		archives = append(archives, a.path)
	}
	if len(archives) == 0 {
		return nil
	}
	s.say("loading the images")
	if err := loader.LoadImages(ctx, archives...); err != nil {
		return err
	}
	s.phase("images", began)
	return nil
}
