package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations by which those who import an archive name its images:
// containerd prefers its own.
const (
	refNameAnnotation        = "org.opencontainers.image.ref.name"
	containerdNameAnnotation = "io.containerd.image.name"
)

// layoutFile and layoutText mark a tar file as an OCI image layout.
const (
	layoutFile = "oci-layout"
	layoutText = `{"imageLayoutVersion":"1.0.0"}`
	indexFile  = "index.json"
)

// Archive writes the named images, or All of them, as one OCI archive for the
// nodes of a cluster: a tar file with every layer once, under every reference
// that manifests use. Layers are not compressed, because packing and unpacking
// would take longer than copying them. Errors: *UnknownError, *NotBuiltError,
// those of w.
func Archive(w io.Writer, bin string, repositories ...string) error {
	return writeArchive(w, newBuilder(bin, false), repositories)
}

// Save is Archive with compressed layers, for archives that are kept or sent. The
// images' digests are those that Push gives.
func Save(w io.Writer, bin string, repositories ...string) error {
	return writeArchive(w, newBuilder(bin, true), repositories)
}

func writeArchive(w io.Writer, b *builder, repositories []string) error {
	entries, err := selected(repositories)
	if err != nil {
		return err
	}
	// Everything is made before anything is written: what goes wrong goes wrong
	// with an empty output.
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	blobs := map[v1.Hash]blob{}
	made, err := b.images(entries)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		described, err := collect(blobs, made[i])
		if err != nil {
			return fmt.Errorf("image %s: %w", entry.Repository, err)
		}
		for _, reference := range entry.References() {
			described.Annotations = map[string]string{refNameAnnotation: FullName(reference), containerdNameAnnotation: FullName(reference)}
			index.Manifests = append(index.Manifests, described)
		}
	}
	list, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("write the archive's index: %w", err)
	}

	archive := &archiveWriter{tar: tar.NewWriter(w)}
	archive.file(layoutFile, memory([]byte(layoutText)))
	archive.file(indexFile, memory(list))
	archive.folder("blobs/")
	archive.folder("blobs/sha256/")
	byName := map[string]blob{}
	for hash, content := range blobs {
		byName["blobs/"+hash.Algorithm+"/"+hash.Hex] = content
	}
	for _, name := range sortedKeys(byName) {
		archive.file(name, byName[name])
	}
	return archive.close()
}

// blob is a file of an archive.
type blob struct {
	size int64
	open func() (io.ReadCloser, error)
}

func memory(content []byte) blob {
	return blob{int64(len(content)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
}

// collect adds the image's blobs, and describes its manifest.
func collect(blobs map[v1.Hash]blob, image v1.Image) (v1.Descriptor, error) {
	manifest, err := image.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, content := range [][]byte{manifest, config} {
		hash, _, err := v1.SHA256(bytes.NewReader(content))
		if err != nil {
			return v1.Descriptor{}, err
		}
		blobs[hash] = memory(content)
	}
	layers, err := image.Layers()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, layer := range layers {
		hash, err := layer.Digest()
		if err != nil {
			return v1.Descriptor{}, err
		}
		size, err := layer.Size()
		if err != nil {
			return v1.Descriptor{}, err
		}
		blobs[hash] = blob{size, layer.Compressed}
	}
	digest, err := image.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(manifest)), Digest: digest, Platform: file.Platform()}, nil
}

// archiveWriter remembers the first error.
type archiveWriter struct {
	tar *tar.Writer
	err error
}

func (a *archiveWriter) folder(name string) {
	if a.err == nil {
		a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR})
	}
}

func (a *archiveWriter) file(name string, content blob) {
	if a.err != nil {
		return
	}
	if a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: content.size, ModTime: epoch, Format: tar.FormatUSTAR}); a.err != nil {
		return
	}
	reader, err := content.open()
	if err != nil {
		a.err = err
		return
	}
	defer reader.Close() // read only: nothing can be lost
	_, a.err = io.Copy(a.tar, reader)
}

func (a *archiveWriter) close() error {
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return fmt.Errorf("write the archive of images: %w", a.err)
	}
	return nil
}
