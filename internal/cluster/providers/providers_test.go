package providers

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
)

// only makes a folder the whole PATH, with programs that are shell scripts.
func only(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
}

// chosen is the choice that flags make.
func chosen(t *testing.T, arguments ...string) *Choice {
	t.Helper()
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	choice := Flags(flags)
	if err := flags.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	choice.State = t.TempDir()
	return choice
}

const (
	docker = `case "$1" in -v) echo "Docker version 28.0.0, build x" ;; image) exit 0 ;; esac`
	empty  = `case "$1" in -v) echo "Docker version 28.0.0, build x" ;; image) echo "Error: No such image: $3" >&2; exit 1 ;; esac`
	down   = `case "$1" in -v) echo "Docker version 28.0.0, build x" ;; *) echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2; exit 1 ;; esac`
)

func TestAutoTakesWhatTheMachineHas(t *testing.T) {
	for _, test := range []struct {
		name     string
		programs map[string]string
		kind     string
		why      string
	}{
		{"docker with the image", map[string]string{"docker": docker}, "kind", "cluster: kind (docker has the node image local/node:v1)"},
		{"docker without it", map[string]string{"docker": empty}, "embedded", "cluster: embedded (docker has no node image local/node:v1, and none is pulled)"},
		{"no daemon", map[string]string{"docker": down}, "embedded", "cluster: embedded (no Docker daemon answers at unix:///var/run/docker.sock)"},
		{"nothing", nil, "embedded", "cluster: embedded (no docker, podman or nerdctl on PATH)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			only(t, test.programs)
			provider, why, err := chosen(t, "-cluster=auto", "-kind-image=local/node:v1", "-nodes=2").Provider()
			if err != nil {
				t.Fatal(err)
			}
			if provider.Kind() != test.kind || why != test.why {
				t.Errorf("got %s, %q, want %s, %q", provider.Kind(), why, test.kind, test.why)
			}
		})
	}
}

func TestAutoDoesNotHideAMistake(t *testing.T) {
	only(t, nil)
	var wrong *cluster.OptionError
	if _, _, err := chosen(t, "-cluster=auto", "-kind-config=missing.yaml").Provider(); !errors.As(err, &wrong) || wrong.Option != "kind-config" {
		t.Errorf("got %v", err)
	}
}

func TestASettingOfAnotherKindIsRefused(t *testing.T) {
	for _, test := range []struct {
		arguments []string
		option    string
	}{
		{[]string{"-kind-image=x"}, "kind-image"},
		{[]string{"-kind-config=x"}, "kind-config"},
		{[]string{"-nodes=2"}, "nodes"},
		{[]string{"-retain"}, "retain"},
		{[]string{"-cluster=kind", "-kubeconfig=x"}, "kubeconfig"},
		{[]string{"-cluster=kind", "-context=x"}, "context"},
		{[]string{"-cluster=auto", "-context=x"}, "context"},
		{[]string{"-cluster=kubeconfig", "-nodes=2"}, "nodes"},
		{[]string{"-cluster=nonsense", "-nodes=2"}, "cluster"},
	} {
		var wrong *cluster.OptionError
		if _, _, err := chosen(t, test.arguments...).Provider(); !errors.As(err, &wrong) || wrong.Option != test.option {
			t.Errorf("%s: got %v, want a complaint about --%s", strings.Join(test.arguments, " "), err, test.option)
		}
	}
}

func TestEveryKindIsMade(t *testing.T) {
	for _, name := range Kinds() {
		options := Options{State: t.TempDir()}
		if name == kubeconfig.Kind {
			options.Kubeconfig = filepath.Join(options.State, "kubeconfig")
			const file = `{"apiVersion": "v1", "kind": "Config", "current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
				"clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [{"name": "a"}]}`
			if err := os.WriteFile(options.Kubeconfig, []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		provider, err := New(name, options)
		if err != nil || provider.Kind() != name {
			t.Errorf("%s: got %v, %v", name, provider, err)
		}
	}
}
