package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the time of everything in an image: a build's own time would make
// every build another image.
var epoch = time.Unix(0, 0).UTC()

// NotBuiltError is about a binary that an image needs and bin/ lacks.
type NotBuiltError struct {
	// Image is the repository; Err names the binary.
	Image string
	Err   error
}

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("image %s: %v; run make build", e.Image, e.Err)
}

func (e *NotBuiltError) Unwrap() error { return e.Err }

// architectures maps what ELF headers say to what OCI platforms say.
var architectures = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le",
}

// binary is a program of bin/ and where images have it.
type binary struct {
	source       string // path on this machine
	target       string // absolute path in images
	size         int64
	architecture string
}

// openBinary makes sure that the file is what an image without anything else in
// it can run.
func openBinary(source, target string) (binary, error) {
	info, err := os.Stat(source)
	if err != nil {
		return binary{}, err
	}
	file, err := elf.Open(source)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) || errors.Is(err, io.EOF) {
			return binary{}, fmt.Errorf("%s is not a Linux program", source)
		}
		return binary{}, err
	}
	defer file.Close() // read only: nothing can be lost
	architecture, known := architectures[file.Machine]
	if !known {
		return binary{}, fmt.Errorf("%s is for %v, which no image here is for", source, file.Machine)
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return binary{}, fmt.Errorf("%s is not static (an image holds no libraries); build it with CGO_ENABLED=0", source)
	}
	return binary{source: source, target: target, size: info.Size(), architecture: architecture}, nil
}

// layer is a v1.Layer over a file of bin/ or over memory. Whoever has the layer
// reads the file again each time, so that no image is held in memory.
type layer struct {
	diffID, digest v1.Hash
	size           int64
	media          types.MediaType
	plain          func() (io.ReadCloser, error)
	// packed is nil for a layer that is not compressed.
	packed []byte
}

func (l *layer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return l.media, nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.plain() }

func (l *layer) Compressed() (io.ReadCloser, error) {
	if l.packed == nil {
		return l.plain()
	}
	return io.NopCloser(bytes.NewReader(l.packed)), nil
}

// newLayer reads plain once. Compressed bytes are kept: making them again costs
// far more than the few megabytes that they take.
func newLayer(plain func() (io.ReadCloser, error), compress bool) (*layer, error) {
	reader, err := plain()
	if err != nil {
		return nil, err
	}
	defer reader.Close() // read only: nothing can be lost
	l := &layer{plain: plain, media: types.OCIUncompressedLayer}
	if !compress {
		if l.diffID, l.size, err = v1.SHA256(reader); err != nil {
			return nil, err
		}
		l.digest = l.diffID
		return l, nil
	}
	var packed bytes.Buffer
	// The header stays empty: it could hold a time and a name.
	packer, err := gzip.NewWriterLevel(&packed, compressionLevel)
	if err != nil {
		return nil, err
	}
	if l.diffID, _, err = v1.SHA256(io.TeeReader(reader, packer)); err != nil {
		return nil, err
	}
	if err := packer.Close(); err != nil {
		return nil, err
	}
	l.media, l.packed, l.size = types.OCILayer, packed.Bytes(), int64(packed.Len())
	l.digest, _, err = v1.SHA256(bytes.NewReader(l.packed))
	return l, err
}

// fileLayer holds one binary and the folders it is in.
func fileLayer(b binary, compress bool) (*layer, error) {
	var header bytes.Buffer
	archive := tar.NewWriter(&header)
	if err := folders(archive, b.target); err != nil {
		return nil, err
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: entry(b.target), Mode: 0o755, Size: b.size, ModTime: epoch, Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	// What the archive's writer would add: the file padded to whole blocks, then
	// two empty blocks. Doing it here lets the file be read while the layer is.
	const block = 512
	trailer := make([]byte, (block-b.size%block)%block+2*block)
	return newLayer(func() (io.ReadCloser, error) {
		file, err := os.Open(b.source)
		if err != nil {
			return nil, err
		}
		content := &exactly{reader: file, left: b.size, name: b.source}
		return &fileReader{io.MultiReader(bytes.NewReader(header.Bytes()), content, bytes.NewReader(trailer)), file}, nil
	}, compress)
}

type fileReader struct {
	io.Reader
	io.Closer
}

// exactly fails when there is more or less to read than was expected: a program
// that is being built again would make an archive that nobody can read.
type exactly struct {
	reader io.Reader
	left   int64
	name   string
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.reader.Read(p)
	e.left -= int64(n)
	if e.left < 0 || e.left > 0 && errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%s changed while it was read", e.name)
	}
	return n, err
}

// linkLayer holds symbolic links, by their own paths, and the folders they are
// in. Links cost nothing where a second copy would cost the size of the binary.
func linkLayer(links map[string]string, compress bool) (*layer, error) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, at := range sortedKeys(links) {
		if err := folders(archive, at); err != nil {
			return nil, err
		}
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: entry(at), Linkname: links[at], Mode: 0o777, ModTime: epoch, Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return newLayer(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }, compress)
}

func folders(archive *tar.Writer, target string) error {
	var above []string
	for folder := path.Dir(target); folder != "/"; folder = path.Dir(folder) {
		above = append(above, folder)
	}
	for _, folder := range slices.Backward(above) {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: entry(folder) + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
	}
	return nil
}

func entry(absolute string) string { return absolute[1:] }
