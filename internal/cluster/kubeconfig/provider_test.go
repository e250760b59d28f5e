package kubeconfig

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster"
)

// kubeconfig writes a kubeconfig whose contexts are called as named, all for
// one server; the first is the current one.
func kubeconfig(t *testing.T, server *httptest.Server, contexts ...string) string {
	t.Helper()
	address, authority := "https://127.0.0.1:1", ""
	if server != nil {
		address = server.URL
		if certificate := server.Certificate(); certificate != nil {
			path := filepath.Join(t.TempDir(), "ca.crt")
			if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			authority = "    certificate-authority: " + path + "\n"
		}
	}
	text := "apiVersion: v1\nkind: Config\ncurrent-context: " + contexts[0] + "\nclusters:\n- name: one\n  cluster:\n    server: " + address + "\n" + authority +
		"users:\n- name: me\n  user:\n    tokenFile: token\ncontexts:\n"
	for _, name := range contexts {
		text += fmt.Sprintf("- name: %s\n  context: {cluster: one, user: me}\n", name)
	}
	path := filepath.Join(t.TempDir(), "config")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(filepath.Dir(path), "token"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// alone makes sure that no kubeconfig of this machine's user is found.
func alone(t *testing.T) {
	t.Helper()
	t.Setenv(clientcmd.RecommendedConfigPathEnvVar, filepath.Join(t.TempDir(), "none"))
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	good := kubeconfig(t, nil, "a", "b")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(dir, "missing")
	for name, row := range map[string]struct {
		options Options
		want    []string
	}{
		"a file that is missing":         {Options{Kubeconfig: missing}, []string{"there is no file " + missing}},
		"a folder":                       {Options{Kubeconfig: dir}, []string{dir}},
		"no YAML":                        {Options{Kubeconfig: write("bad", "{[")}, []string{filepath.Join(dir, "bad"), "yaml"}},
		"another kind of YAML":           {Options{Kubeconfig: write("pod", "apiVersion: v1\nkind: Pod\n")}, []string{filepath.Join(dir, "pod")}},
		"an empty file":                  {Options{Kubeconfig: write("empty", "")}, []string{filepath.Join(dir, "empty"), "--kubeconfig"}},
		"no kubeconfig at all":           {Options{}, []string{"no kubeconfig", "--kubeconfig"}},
		"a context that is missing":      {Options{Kubeconfig: good, Context: "c"}, []string{good, `"c"`, "known are a, b"}},
		"no context chosen":              {Options{Kubeconfig: write("unset", "apiVersion: v1\nkind: Config\ncontexts:\n- name: x\n  context: {cluster: other, user: me}\n")}, []string{"--context", "chooses none; known are x"}},
		"a context of a missing cluster": {Options{Kubeconfig: write("half", "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts:\n- name: x\n  context: {cluster: other, user: me}\n")}, []string{`"x"`, filepath.Join(dir, "half")}},
		"no pod around":                  {Options{InCluster: true}, []string{"this process runs in"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(row.options)
			if err == nil {
				t.Fatal("no error")
			}
			var option *cluster.OptionError
			if !errors.As(err, &option) {
				t.Errorf("%v: is not bad input", err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: has several lines", err)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %s", err, want)
				}
			}
		})
	}
}

// answering is an API server that answers every request with the same status.
func answering(t *testing.T, tls bool, status int, body string) *httptest.Server {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = nil
	if tls {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

func TestAServerThatIsOfNoUseIsNamed(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	status := func(code int, reason string) string {
		return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":%q,"code":%d}`, reason, strings.ToLower(reason), code)
	}
	trusted := answering(t, true, http.StatusUnauthorized, status(401, "Unauthorized"))
	old := answering(t, true, http.StatusOK, `{"major":"1","minor":"24+","gitVersion":"v1.24.9-vendor"}`)
	page := answering(t, true, http.StatusOK, "<html>")
	stranger := answering(t, true, http.StatusOK, "{}")
	plain := answering(t, false, http.StatusOK, "{}")
	edit := func(path string, pairs ...string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, row := range map[string]struct{ kubeconfig, want string }{
		"nobody listens":           {edit(kubeconfig(t, nil, "a"), "127.0.0.1:1", nobody), "https://" + nobody + " cannot be reached: connection refused"},
		"there is no such host":    {edit(kubeconfig(t, nil, "a"), "127.0.0.1:1", "nowhere.invalid"), "https://nowhere.invalid cannot be reached: lookup nowhere.invalid"},
		"the user is not known":    {kubeconfig(t, trusted, "a"), trusted.URL + " does not accept the kubeconfig's credentials"},
		"the server is too old":    {kubeconfig(t, old, "a"), old.URL + " runs Kubernetes v1.24.9-vendor, which is too old (remedy: use Kubernetes 1.25 or later)"},
		"another kind of server":   {kubeconfig(t, page, "a"), page.URL + " does not answer as an API server"},
		"a stranger's certificate": {edit(kubeconfig(t, nil, "a"), "https://127.0.0.1:1", stranger.URL), stranger.URL + " shows a certificate that the kubeconfig does not trust"},
		"no TLS":                   {edit(kubeconfig(t, nil, "a"), "https://127.0.0.1:1", "https://"+plain.Listener.Addr().String()), " does not speak TLS"},
		"a program that is missing": {edit(kubeconfig(t, trusted, "a"), "tokenFile: token", "exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-program, interactiveMode: Never, installHint: ask your vendor}"),
			"no-such-program"},
	} {
		t.Run(name, func(t *testing.T) {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			provider, err := New(Options{Kubeconfig: row.kubeconfig})
			if err != nil {
				t.Fatal(err)
			}
			_, err = provider.Create(context.Background(), cluster.Options{})
			var setup *cluster.SetupError
			if !errors.As(err, &setup) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
			left, err := os.ReadDir(temporary)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}

func TestTheRunsKubeconfigKnowsOnlyTheContextThatWasAskedFor(t *testing.T) {
	alone(t)
	t.Setenv("TMPDIR", t.TempDir())
	first := kubeconfig(t, nil, "a", "b")
	config, err := load(Options{Kubeconfig: first, Context: "b"})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := write(config)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{folder: 0o700, file(folder): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode().Perm(), want, err)
		}
	}
	written, err := clientcmd.LoadFromFile(file(folder))
	if err != nil {
		t.Fatal(err)
	}
	if len(written.Contexts) != 1 || written.CurrentContext != "b" {
		t.Errorf("it has %d contexts, the current one is %s", len(written.Contexts), written.CurrentContext)
	}
	// A file beside the kubeconfig is found from the copy, too.
	if got, want := written.AuthInfos["me"].TokenFile, filepath.Join(filepath.Dir(first), "token"); got != want {
		t.Errorf("the token is at %s, want %s", got, want)
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); err != nil {
		t.Errorf("the folder of a process that runs was removed: %v", err)
	}
	dead := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(folder), fmt.Sprintf("%s%d-left", folderPrefix, dead.Process.Pid))
	if err := errors.Join(os.Mkdir(left, 0o700), sweep()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of a process that has ended is still there: %v", err)
	}
}

func TestKubeconfigsOfAListAreMerged(t *testing.T) {
	t.Setenv(clientcmd.RecommendedConfigPathEnvVar, kubeconfig(t, nil, "a")+string(os.PathListSeparator)+filepath.Join(t.TempDir(), "none")+string(os.PathListSeparator)+kubeconfig(t, nil, "b"))
	for asked, want := range map[string]string{"": "a", "b": "b"} {
		provider, err := New(Options{Context: asked})
		if err != nil {
			t.Fatal(err)
		}
		if provider.Name() != want {
			t.Errorf("context %q: got %s, want %s", asked, provider.Name(), want)
		}
	}
}
