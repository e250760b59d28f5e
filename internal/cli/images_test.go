package cli

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// agentBin is a bin folder with one program, the least that counts as one.
func agentBin(t *testing.T) string {
	t.Helper()
	var program bytes.Buffer
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(header.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1})
	if err := binary.Write(&program, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "meshproof-agent"), program.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestImagesAreListedSavedAndPushed(t *testing.T) {
	bin := agentBin(t)
	code, out, errOut := runLine(t, "images", "list", "--bin", bin)
	if code != ExitOK || errOut != "" {
		t.Fatalf("code %d, stderr %q", code, errOut)
	}
	for _, want := range []string{`(?m)^REFERENCE +SIZE +DIGEST +PURPOSE$`, `(?m)^meshproof/agent:dev +[0-9.]+ MB +sha256:[0-9a-f]{12} +every role`,
		`(?m)^networld/grpcurl:latest +- +not built: grpcurl +`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	code, out, _ = runLine(t, "images", "list", "--bin", bin, "-o", "json")
	var listed []struct {
		References []string
		Digest     string
		User       int
	}
	if err := json.Unmarshal([]byte(out), &listed); err != nil || code != ExitOK || listed[0].References[0] != "meshproof/agent:dev" || listed[0].User != 2102 {
		t.Fatalf("code %d, %v, %s", code, err, out)
	}

	file := filepath.Join(t.TempDir(), "images.tar")
	if code, out, errOut := runLine(t, "images", "save", "--bin", bin, "-o", file, "meshproof/agent"); code != ExitOK || out != "" || errOut != "" {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errOut)
	}
	saved, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, out, _ := runLine(t, "images", "save", "--bin", bin, "meshproof/agent"); out != string(saved) {
		t.Error("what goes to standard output is not what goes to a file")
	}

	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	code, out, errOut = runLine(t, "images", "push", "--bin", bin, "--registry", host, "meshproof/agent")
	line := host + "/meshproof/agent@" + listed[0].Digest + "\n"
	if code != ExitOK || out != line || errOut != "" {
		t.Errorf("code %d, stdout %q, want %q, stderr %q", code, out, line, errOut)
	}
}

func TestWhatIsWrongWithImagesIsSaidInOneLine(t *testing.T) {
	bin := agentBin(t)
	empty := t.TempDir()
	kept := filepath.Join(t.TempDir(), "kept.tar")
	if err := os.WriteFile(kept, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"images", "nonsense"}, ExitUsage, ""},
		{[]string{"images", "list", "-o", "yaml"}, ExitUsage, `unknown output "yaml": want table or json`},
		{[]string{"images", "save", "--bin", bin, "meshproof/agnet"}, ExitUsage, "did you mean meshproof/agent?"},
		{[]string{"images", "save", "--bin", bin, "meshproof/agent:v7"}, ExitUsage, "did you mean meshproof/agent:dev?"},
		{[]string{"images", "save", "--bin", empty}, ExitSetup, "run make build"},
		{[]string{"images", "save", "--bin", empty, "-o", kept}, ExitSetup, "run make build"},
		{[]string{"images", "save", "--bin", bin, "-o", filepath.Join(empty, "absent", "x.tar"), "meshproof/agent"}, ExitUsage, "no such file or directory"},
		{[]string{"images", "save", "--bin", bin, "-o", empty, "meshproof/agent"}, ExitUsage, "is a directory"},
		{[]string{"images", "push", "--bin", bin, "meshproof/agent"}, ExitUsage, "name the registry with --registry"},
		{[]string{"images", "push", "--bin", bin, "--registry", "somebody", "meshproof/agent"}, ExitUsage, "want a host name"},
		{[]string{"images", "push", "--bin", empty, "--registry", "localhost:1"}, ExitSetup, "run make build"},
		{[]string{"images", "push", "--bin", bin, "--registry", "localhost:1", "meshproof/agent"}, ExitSetup, "connection refused"},
	} {
		code, out, errOut := runLine(t, c.args...)
		if code != c.code || out != "" || !strings.HasPrefix(errOut, "meshproof: ") || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", c.args, code, out, errOut)
		}
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != "before" {
		t.Errorf("a failed save left %q, %v", text, err)
	}
	if left, err := os.ReadDir(filepath.Dir(kept)); err != nil || len(left) != 1 {
		t.Errorf("a failed save left %v, %v", left, err)
	}
}

func TestARunRefusesImagesThatItsClusterCannotHave(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--registry", "registry.example"}, "--registry: the embedded cluster has this project's own images and no others"},
		{[]string{"--proxy-image", "mine/proxy:v2"}, "--proxy-image: the embedded cluster has"},
		{[]string{"--controller-image", "A B"}, `--controller-image: "A B" is no image's name`},
		{[]string{"--image-pull-policy", "often"}, `--image-pull-policy: "often" is none of`},
	} {
		code, out, errOut := runLine(t, append([]string{"run", "walk-through", "--output-dir", t.TempDir()}, c.args...)...)
		if code != ExitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", c.args, code, out, errOut)
		}
	}
}
