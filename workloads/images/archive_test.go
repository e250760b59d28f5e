package images_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/meshproof/meshproof/workloads/images"
)

// realBin is where make puts the programs.
const realBin = "../../bin"

var programs = []string{"meshproof-agent", "grpcurl", "meshproof-grpcurl", "meshproof"}

// program is the least that counts as a static Linux program, and some bytes of
// its own.
func program(machine elf.Machine, content string) []byte {
	var out bytes.Buffer
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	if err := binary.Write(&out, binary.LittleEndian, header); err != nil {
		panic(err)
	}
	out.WriteString(content)
	return out.Bytes()
}

// makeBin is a bin folder whose programs have this time and mode.
func makeBin(t *testing.T, machine elf.Machine, at time.Time, mode os.FileMode) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range programs {
		path := filepath.Join(bin, name)
		if err := os.WriteFile(path, program(machine, strings.Repeat(name, 1000)), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func plainBin(t *testing.T) string {
	t.Helper()
	return makeBin(t, elf.EM_X86_64, time.Now(), 0o755)
}

type writer func(io.Writer, string, ...string) error

var writers = map[string]writer{"Archive": images.Archive, "Save": images.Save}

func archive(t *testing.T, write writer, bin string, repositories ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out, bin, repositories...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpack lays the archive out and lets another implementation read it.
func unpack(t *testing.T, text []byte) (v1.IndexManifest, map[string]v1.Image) {
	t.Helper()
	folder := t.TempDir()
	reader := tar.NewReader(bytes.NewReader(text))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, header.Name)
		if header.Typeflag == tar.TypeDir {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is in the archive twice", header.Name)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]v1.Image{}
	for _, described := range manifest.Manifests {
		image, err := index.Image(described.Digest)
		if err != nil {
			t.Fatal(err)
		}
		byName[described.Annotations["io.containerd.image.name"]] = image
	}
	return *manifest, byName
}

func TestTwoBuildsOfTheSameProgramsAreEqualByteForByte(t *testing.T) {
	one := makeBin(t, elf.EM_X86_64, time.Unix(1_000_000_000, 0), 0o755)
	two := makeBin(t, elf.EM_X86_64, time.Unix(1_700_000_000, 1), 0o500)
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			every := []string{}
			for _, image := range images.Everything() {
				every = append(every, image.Repository)
			}
			a, b := archive(t, write, one, every...), archive(t, write, two, every...)
			if !bytes.Equal(a, b) {
				t.Error("archives of the same programs differ")
			}
			slices.Reverse(every)
			if c := archive(t, write, one, every...); !bytes.Equal(a, c) {
				t.Error("the order of the names changes the archive")
			}
			changed := makeBin(t, elf.EM_X86_64, time.Unix(1_000_000_000, 0), 0o755)
			if err := os.WriteFile(filepath.Join(changed, "grpcurl"), program(elf.EM_X86_64, "other"), 0o755); err != nil {
				t.Fatal(err)
			}
			if d := archive(t, write, changed, every...); bytes.Equal(a, d) {
				t.Error("another program makes no other archive")
			}
		})
	}
}

func TestAnArchiveHoldsNothingOfThisMachine(t *testing.T) {
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			_, made := unpack(t, archive(t, write, plainBin(t)))
			check := func(header *tar.Header) {
				if !header.ModTime.Equal(time.Unix(0, 0)) || header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Gname != "" || len(header.PAXRecords) > 0 {
					t.Errorf("%+v", header)
				}
			}
			for reference, image := range made {
				layers, err := image.Layers()
				if err != nil {
					t.Fatal(err)
				}
				for _, layer := range layers {
					plain, err := layer.Uncompressed()
					if err != nil {
						t.Fatal(err)
					}
					for reader := tar.NewReader(plain); ; {
						header, err := reader.Next()
						if errors.Is(err, io.EOF) {
							break
						}
						if err != nil {
							t.Fatalf("%s: %v", reference, err)
						}
						check(header)
					}
					packed, err := layer.Compressed()
					if err != nil {
						t.Fatal(err)
					}
					if reader, err := gzip.NewReader(packed); err == nil && (!reader.ModTime.IsZero() || reader.Name != "") {
						t.Errorf("%s: gzip header %+v", reference, reader.Header)
					}
				}
				config, err := image.ConfigFile()
				if err != nil {
					t.Fatal(err)
				}
				for _, step := range config.History {
					if !step.Created.Equal(time.Unix(0, 0)) {
						t.Errorf("%s: made %s", reference, step.Created)
					}
				}
			}
		})
	}
}

func TestAnArchiveIsReadByOthers(t *testing.T) {
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			index, made := unpack(t, archive(t, write, plainBin(t)))
			var names []string
			for _, described := range index.Manifests {
				full := described.Annotations["io.containerd.image.name"]
				names = append(names, full)
				if described.Annotations["org.opencontainers.image.ref.name"] != full {
					t.Errorf("%s has another name: %v", full, described.Annotations)
				}
				if p := described.Platform; p == nil || p.OS != "linux" || p.Architecture != "amd64" {
					t.Errorf("%s is for %v", full, p)
				}
				// The complete check knows compressed layers only.
				options := map[string][]validate.Option{"Archive": {validate.Fast}}[name]
				if err := validate.Image(made[full], options...); err != nil {
					t.Errorf("%s: %v", full, err)
				}
			}
			want := []string{
				"docker.io/meshproof/agent:dev", "docker.io/meshproof/agent:latest",
				"docker.l5d.io/buoyantio/emojivoto-web:v11", "docker.l5d.io/buoyantio/emojivoto-emoji-svc:v11", "docker.l5d.io/buoyantio/emojivoto-voting-svc:v11",
				"docker.io/meshproof/grpcurl:latest", "docker.io/networld/grpcurl:latest", "docker.io/fullstorydev/grpcurl:latest",
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnImageHasWhatItsEntryInTheTableSays(t *testing.T) {
	bin := plainBin(t)
	_, made := unpack(t, archive(t, images.Save, bin, "meshproof/agent", "docker.l5d.io/buoyantio/emojivoto-web:v11", "meshproof/meshproof:dev", "fullstorydev/grpcurl"))
	labels := func(title, version string) map[string]string {
		return map[string]string{"org.opencontainers.image.title": title, "org.opencontainers.image.version": version,
			"org.opencontainers.image.source": "https://github.com/meshproof/meshproof", "org.opencontainers.image.licenses": "Apache-2.0"}
	}
	path := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	const agent = "/usr/local/bin/meshproof-agent"
	for name, want := range map[string]struct {
		config v1.Config
		files  map[string]string // contents of files, "-> target" of links
	}{
		"docker.io/meshproof/agent:dev": {
			v1.Config{User: "2102", WorkingDir: "/", Env: path, Entrypoint: []string{agent}, Labels: labels("agent", "dev")},
			map[string]string{agent: "meshproof-agent"}},
		"docker.l5d.io/buoyantio/emojivoto-web:v11": {
			v1.Config{User: "65532", WorkingDir: "/", Env: path, Entrypoint: []string{agent, "web"}, Labels: labels("emojivoto-web", "v11")},
			map[string]string{agent: "meshproof-agent", "/usr/local/bin/emojivoto-vote-bot": "-> " + agent}},
		"docker.io/meshproof/meshproof:dev": {
			v1.Config{User: "65532", WorkingDir: "/", Env: path, Entrypoint: []string{"/usr/local/bin/meshproof"}, Labels: labels("meshproof", "dev")},
			map[string]string{"/usr/local/bin/meshproof": "meshproof"}},
		"docker.io/fullstorydev/grpcurl:latest": {
			v1.Config{User: "65532", WorkingDir: "/", Env: path, Entrypoint: []string{"/bin/grpcurl"}, Labels: labels("grpcurl", "latest")},
			map[string]string{"/grpcurl": "grpcurl", "/bin/grpcurl": "-> /grpcurl"}},
	} {
		t.Run(name, func(t *testing.T) {
			image := made[name]
			if image == nil {
				t.Fatal("not in the archive")
			}
			file, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			delete(file.Config.Labels, "org.opencontainers.image.description")
			if diff := cmp.Diff(want.config, file.Config); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.files, contents(t, image)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// contents are the files of an image, each told by the name that its program
// repeats.
func contents(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, layer := range layers {
		plain, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for reader := tar.NewReader(plain); ; {
			header, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch header.Typeflag {
			case tar.TypeSymlink:
				files["/"+header.Name] = "-> " + header.Linkname
			case tar.TypeReg:
				text, err := io.ReadAll(reader)
				if err != nil {
					t.Fatal(err)
				}
				if header.Mode != 0o755 {
					t.Errorf("%s has mode %o", header.Name, header.Mode)
				}
				content := string(text[64:])
				for _, name := range programs {
					if content == strings.Repeat(name, 1000) {
						content = name
					}
				}
				files["/"+header.Name] = content
			}
		}
	}
	return files
}

func TestAPlatformIsThatOfThePrograms(t *testing.T) {
	for machine, want := range map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"} {
		index, made := unpack(t, archive(t, images.Archive, makeBin(t, machine, time.Now(), 0o755), "meshproof/agent"))
		config, err := made["docker.io/meshproof/agent:dev"].ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := index.Manifests[0].Platform.Architecture; got != want || config.Architecture != want {
			t.Errorf("%v: index %s, config %s, want %s", machine, got, config.Architecture, want)
		}
	}
}

func TestEachLayerIsStoredOnce(t *testing.T) {
	text := archive(t, images.Archive, plainBin(t))
	for _, name := range []string{"grpcurl", "meshproof-agent"} {
		if got := bytes.Count(text, []byte(strings.Repeat(name, 1000))); got != 1 {
			t.Errorf("%s is in the archive %d times", name, got)
		}
	}
	_, made := unpack(t, text)
	first := func(name string) v1.Hash {
		layers, err := made[name].Layers()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := layers[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	if a, b := first("docker.io/meshproof/agent:dev"), first("docker.l5d.io/buoyantio/emojivoto-web:v11"); a != b {
		t.Errorf("the agent's layer is %s and %s", a, b)
	}
	if a, b := first("docker.io/networld/grpcurl:latest"), first("docker.io/fullstorydev/grpcurl:latest"); a != b {
		t.Errorf("grpcurl's layer is %s and %s", a, b)
	}
}

func TestWhatCannotBecomeAnImageIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	bin := plainBin(t)
	change := func(content []byte) string {
		bin := plainBin(t)
		path := filepath.Join(bin, "grpcurl")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if err := os.WriteFile(path, content, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return bin
	}
	dynamic := program(elf.EM_X86_64, "")
	binary.LittleEndian.PutUint64(dynamic[32:], 64) // where the program headers are
	binary.LittleEndian.PutUint16(dynamic[56:], 1)  // and how many
	dynamic = append(dynamic, make([]byte, 56)...)
	binary.LittleEndian.PutUint32(dynamic[64:], uint32(elf.PT_INTERP))
	for _, row := range []struct {
		name  string
		bin   string
		asked []string
		want  string
	}{
		{"an image that is not in the table", bin, []string{"meshproof/agnet"}, `image "meshproof/agnet" is not one of this project's images; did you mean meshproof/agent?`},
		{"a tag that is not", bin, []string{"meshproof/agent:v7"}, `image "meshproof/agent:v7" is not one of this project's images; did you mean meshproof/agent:dev?`},
		{"a digest", bin, []string{"meshproof/agent@sha256:01"}, `did you mean meshproof/agent:dev?`},
		{"a program that is missing", change(nil), nil, "grpcurl: no such file or directory; run make build"},
		{"a program that is none", change([]byte("#!/bin/sh\n")), nil, "/grpcurl is not a Linux program"},
		{"a program that is empty", change([]byte{}), nil, "/grpcurl is not a Linux program"},
		{"a program that needs libraries", change(dynamic), nil, "/grpcurl is not static (an image holds no libraries); build it with CGO_ENABLED=0"},
		{"a program for another machine than its neighbour's", change(program(elf.EM_AARCH64, "")), nil, "/meshproof-grpcurl is for amd64, but another of its programs is for arm64"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for name, write := range writers {
				var out bytes.Buffer
				err := write(&out, row.bin, row.asked...)
				if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v, want one line with %q", name, err, row.want)
				}
				if out.Len() > 0 {
					t.Errorf("%s wrote %d bytes", name, out.Len())
				}
			}
			// What is wrong between two programs is known when both were looked at.
			if err := images.Check(row.bin, row.asked...); (err == nil || !strings.Contains(err.Error(), row.want)) && !strings.Contains(row.want, "another of its programs") {
				t.Errorf("Check: %v, want %q", err, row.want)
			}
		})
	}
	if err := images.Check(bin); err != nil {
		t.Errorf("programs that are fit: %v", err)
	}
	var missing *images.NotBuiltError
	if err := images.Archive(io.Discard, t.TempDir()); !errors.As(err, &missing) {
		t.Errorf("an empty bin folder: %v", err)
	}
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestAWriteErrorIsReturned(t *testing.T) {
	bin := plainBin(t)
	size := len(archive(t, images.Archive, bin))
	for _, left := range []int{0, 600, size / 2, size - 1} {
		if err := images.Archive(&full{left}, bin); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("after %d bytes: %v", left, err)
		}
	}
}

// TestTheAgentsImageIsSmall measures what `make build` built.
func TestTheAgentsImageIsSmall(t *testing.T) {
	if _, err := os.Stat(filepath.Join(realBin, "meshproof-agent")); err != nil {
		t.Skipf("no program to measure: %v", err)
	}
	const limit = 25_000_000
	var out bytes.Buffer
	if err := images.Save(&out, realBin, "meshproof/agent"); err != nil {
		t.Fatal(err)
	}
	if out.Len() > limit {
		t.Errorf("%d bytes, want at most %d", out.Len(), limit)
	}
	t.Logf("%.1f MB", float64(out.Len())/1e6)
}

func TestManifestsAreJSONThatOthersExpect(t *testing.T) {
	for name, want := range map[string]string{"Archive": "application/vnd.oci.image.layer.v1.tar", "Save": "application/vnd.oci.image.layer.v1.tar+gzip"} {
		_, made := unpack(t, archive(t, writers[name], plainBin(t), "meshproof/agent"))
		raw, err := made["docker.io/meshproof/agent:dev"].RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		var manifest struct {
			SchemaVersion int
			MediaType     string
			Config        struct{ MediaType string }
			Layers        []struct{ MediaType string }
		}
		if err := json.Unmarshal(raw, &manifest); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(manifest)
		if wanted := fmt.Sprintf("{2 application/vnd.oci.image.manifest.v1+json {application/vnd.oci.image.config.v1+json} [{%s}]}", want); got != wanted {
			t.Errorf("%s: %s, want %s", name, got, wanted)
		}
	}
}
