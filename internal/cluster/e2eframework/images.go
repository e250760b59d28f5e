package e2eframework

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/images"
)

// LoadImage puts one of this project's images onto every node, by its reference.
// Another image has to come as a file, because nothing here talks to a
// registry or to a daemon's store.
func (a *Adapter) LoadImage(ctx context.Context, image string, args ...string) error {
	loader, err := a.loader(args)
	if err != nil {
		return fmt.Errorf("load image %q: %w", image, err)
	}
	entry, err := images.Find(image)
	if err != nil {
		return fmt.Errorf("load image: %w: save it to a file and use LoadImageArchive", err)
	}
	if loader == nil { // it is there
		return nil
	}
	programs, err := a.programs()
	if err != nil {
		return fmt.Errorf("load image %q: %w", image, err)
	}
	file, err := os.CreateTemp("", archivePattern)
	if err != nil {
		return fmt.Errorf("write image %q: %w", image, err)
	}
	defer os.Remove(file.Name())
	if err := errors.Join(images.Archive(file, programs, entry.Repository), file.Close()); err != nil {
		return fmt.Errorf("write image %q: %w", image, err)
	}
	return loader.LoadImages(ctx, file.Name())
}

// programs is the folder of this project's programs: the one that was named, or
// that of the running program.
func (a *Adapter) programs() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settings.Programs != "" {
		return a.settings.Programs, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's folder: %w", err)
	}
	return filepath.Dir(executable), nil
}

// archivePattern names the temporary files with images.
const archivePattern = "meshproof-images-*.tar"

// LoadImageArchive puts the images of an OCI or Docker archive onto every node.
// The file may be compressed with gzip.
func (a *Adapter) LoadImageArchive(ctx context.Context, archivePath string, args ...string) error {
	loader, err := a.loader(args)
	if err != nil {
		return fmt.Errorf("load images of %s: %w", archivePath, err)
	}
	if loader == nil {
		return fmt.Errorf("load images of %s: a cluster of this kind runs the images of this project and no others", archivePath)
	}
	plain, remove, err := uncompressed(archivePath)
	if err != nil {
		return err
	}
	return errors.Join(loader.LoadImages(ctx, plain), remove())
}

// loader is who loads images into the cluster; nil when the cluster has this
// project's and takes no others.
func (a *Adapter) loader(args []string) (cluster.ImageLoader, error) {
	if err := noArgs(args); err != nil {
		return nil, err
	}
	c := a.Cluster()
	if c == nil {
		return nil, errNoCluster
	}
	if loader, ok := c.(cluster.ImageLoader); ok {
		return loader, nil
	}
	if c.Capabilities().LocalImages {
		return nil, nil
	}
	return nil, fmt.Errorf("cluster %q pulls its images: push them to a registry that it can reach", c.Name())
}

// uncompressed returns the path of the archive without compression, and how to
// remove it when it was made here.
func uncompressed(path string) (plain string, remove func() error, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", nil, fmt.Errorf("read image archive: %w", err)
	}
	defer file.Close()
	in := bufio.NewReader(file)
	magic, err := in.Peek(2)
	if err != nil {
		return "", nil, fmt.Errorf("read image archive %s: %w", path, err)
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return path, func() error { return nil }, nil
	}
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return "", nil, fmt.Errorf("read image archive %s: %w", path, err)
	}
	out, err := os.CreateTemp("", archivePattern)
	if err != nil {
		return "", nil, fmt.Errorf("uncompress image archive: %w", err)
	}
	remove = func() error { return os.Remove(out.Name()) }
	_, err = io.Copy(out, unzipped)
	if err = errors.Join(err, out.Close()); err != nil {
		return "", nil, errors.Join(fmt.Errorf("uncompress image archive %s: %w", path, err), remove())
	}
	return out.Name(), remove, nil
}
