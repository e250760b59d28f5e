package kind

import (
	"errors"
	"fmt"
	"testing"

	kindexec "sigs.k8s.io/kind/pkg/exec"

	"github.com/meshproof/meshproof/internal/cluster"
)

// failed is an error of kind's library about a program.
func failed(output string, command ...string) error {
	return fmt.Errorf("failed to do it: %w", &kindexec.RunError{Command: command, Output: []byte(output), Inner: errors.New("exit status 1")})
}

func TestErrorsOfKindAreOneLine(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"what a program says of its error", failed("I0101 starting\nError response from daemon: no such thing\nsee --help\n", "docker", "run", "--name", "x"),
			"kind: node containers: docker run: Error response from daemon: no such thing"},
		{"what it says at last", failed("first\nlast\n\n", "docker", "run"), "kind: node containers: docker run: last"},
		{"a program that says nothing", failed("", "docker", "run"), "kind: node containers: docker run: exit status 1"},
		{"kind's own", errors.New("must have at least one control-plane node"), "kind: node containers: must have at least one control-plane node"},
		{"a node that does not boot", errors.New(`could not find a log line that matches "Reached target .*Multi-User System.*|detected cgroup v1"`),
			"a node's container did not boot (remedy: raise the limits of inotify: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288)"},
		{"a full disk", failed("write /var/lib/docker/x: no space left on device", "docker", "run"),
			"the disk of the node provider is full (remedy: make room, for instance with docker system prune)"},
		{"a port that is in use outside of docker", failed("Error response from daemon: failed to set up container networking: driver failed programming external connectivity on endpoint a-control-plane: failed to bind host port for 127.0.0.1:26443:172.18.0.4:6443/tcp: address already in use", "docker", "run"),
			"a port that the cluster needs on this machine is taken: 127.0.0.1:26443 (remedy: end who listens there, or change apiServerPort or extraPortMappings in the file of --kind-config)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := explainKind(nodesMade, test.err)
			var setup *cluster.SetupError
			if !errors.As(err, &setup) || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestTheKubeletsReasonIsPreferred(t *testing.T) {
	silent := failed("[wait-control-plane] Waiting for the kubelet\nerror: failed while waiting for the kubelet to start\n", "docker", "exec")
	for _, test := range []struct {
		name string
		err  error
		log  string
		want string
	}{
		{"an old cgroup", silent, `E0101 00:00:00.000000 1 run.go:72] "command failed" err="failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported"`,
			"the kubelet refuses to run on this machine's cgroup v1 (remedy: set failCgroupV1: false for the KubeletConfiguration in a file of --kind-config, under kubeadmConfigPatches)"},
		{"something else", silent, "Started kubelet.service\nJan 01 a kubelet[1]: E0101 00:00:00.000000 1 run.go:72] \"command failed\" err=\"unknown flag: --nonsense\"\nkubelet.service: Failed\n",
			`the control plane did not come up: kubelet: err="unknown flag: --nonsense" (remedy: look into the nodes' logs, or keep the nodes with --retain)`},
		{"no log", silent, "", "the control plane did not come up (remedy: look into the nodes' logs, or keep the nodes with --retain)"},
		{"an error before the kubelet", failed("docker: no such container", "docker", "exec"), "whatever", ""},
		{"an error of nobody's", errors.New("kubelet is not running"), "whatever", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if err := explainKubelet(test.err, test.log); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
