package cri

import (
	"bytes"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
	"github.com/meshproof/meshproof/workloads/images"
)

func TestCommandFollowsTheRulesOfEntrypointAndCmd(t *testing.T) {
	image := images.Image{Entrypoint: []string{"e"}, Cmd: []string{"c"}}
	for _, test := range []struct{ command, args, want []string }{
		{nil, nil, []string{"e", "c"}},
		{nil, []string{"a"}, []string{"e", "a"}},
		{[]string{"p"}, nil, []string{"p"}},
		{[]string{"p"}, []string{"a"}, []string{"p", "a"}},
	} {
		got := command(&runtimeapi.ContainerConfig{Command: test.command, Args: test.args}, image)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("command %q, args %q (-want +got):\n%s", test.command, test.args, diff)
		}
	}
}

func TestUserIsThePodsElseTheImages(t *testing.T) {
	all := []idRange{{0, 65536}}
	many, one := idMap{uids: all, gids: all}, idMap{uids: []idRange{{0, 1}}, gids: []idRange{{0, 1}}, denied: true}
	value := func(n int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: n} }
	for name, test := range map[string]struct {
		ids     idMap
		context *runtimeapi.LinuxContainerSecurityContext
		want    containerinit.Credentials
		fails   bool
	}{
		"nothing said":    {ids: many, want: containerinit.Credentials{UID: 2102}},
		"a uid":           {ids: many, context: &runtimeapi.LinuxContainerSecurityContext{RunAsUser: value(0)}, want: containerinit.Credentials{}},
		"groups":          {ids: many, context: &runtimeapi.LinuxContainerSecurityContext{RunAsGroup: value(3), SupplementalGroups: []int64{4}}, want: containerinit.Credentials{UID: 2102, GID: 3, Groups: []uint32{4}}},
		"a name":          {ids: many, context: &runtimeapi.LinuxContainerSecurityContext{RunAsUsername: "root"}, want: containerinit.Credentials{}},
		"an unknown name": {ids: many, context: &runtimeapi.LinuxContainerSecurityContext{RunAsUsername: "john"}, fails: true},
		"a uid too large": {ids: many, context: &runtimeapi.LinuxContainerSecurityContext{RunAsUser: value(65536)}, fails: true},
		"a gid too large": {ids: many, context: &runtimeapi.LinuxContainerSecurityContext{RunAsGroup: value(65536)}, fails: true},
		"a single uid":    {ids: one, context: &runtimeapi.LinuxContainerSecurityContext{RunAsUser: value(5), SupplementalGroups: []int64{4}}, want: containerinit.Credentials{KeepGroups: true}},
	} {
		got, err := test.ids.credentials(test.context, images.Image{User: 2102})
		if (err != nil) != test.fails {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestStopSignal(t *testing.T) {
	for name, want := range map[runtimeapi.Signal]syscall.Signal{
		runtimeapi.Signal_RUNTIME_DEFAULT: unix.SIGTERM,
		runtimeapi.Signal_SIGUSR1:         unix.SIGUSR1,
		runtimeapi.Signal_SIGRTMIN:        34,
		runtimeapi.Signal_SIGRTMINPLUS3:   37,
		runtimeapi.Signal_SIGRTMAXMINUS1:  63,
		runtimeapi.Signal_SIGRTMAX:        64,
	} {
		c := &container{config: &runtimeapi.ContainerConfig{StopSignal: name}}
		if got := c.stopSignal(); got != want {
			t.Errorf("%s is signal %d, want %d", name, got, want)
		}
	}
}

func TestEverySignalOfTheInterfaceHasANumber(t *testing.T) {
	for number, name := range runtimeapi.Signal_name {
		c := &container{config: &runtimeapi.ContainerConfig{StopSignal: runtimeapi.Signal(number)}}
		if got := c.stopSignal(); got == unix.SIGTERM && name != "SIGTERM" && name != "RUNTIME_DEFAULT" {
			t.Errorf("%s became SIGTERM", name)
		}
	}
}

func TestLogKeepsEveryByteHoweverItArrives(t *testing.T) {
	text := "one\n\ntwo" + strings.Repeat("x", 2*maxLogLine) + "\nlast without newline"
	for name, reader := range map[string]io.Reader{
		"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)),
		"with the end": iotest.DataErrReader(strings.NewReader(text)),
	} {
		file, err := os.CreateTemp(t.TempDir(), "log")
		if err != nil {
			t.Fatal(err)
		}
		var seen bytes.Buffer
		log := &containerLog{file: file}
		if err := log.copy(runtimeapi.Stderr, reader, func(chunk []byte) { seen.Write(chunk) }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		log.close()
		if got := (&rig{T: t}).log(file.Name()); got != text {
			t.Errorf("%s: log has %d bytes of %d", name, len(got), len(text))
		}
		if seen.String() != text {
			t.Errorf("%s: watchers saw %d bytes of %d", name, seen.Len(), len(text))
		}
	}
}
