package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPodLife(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		id := r.container(podID, pod, nil, "wait")
		if state := r.status(id).State; state != runtimeapi.ContainerState_CONTAINER_CREATED {
			t.Errorf("state %s before start", state)
		}
		r.start(id)
		status := r.status(id)
		if status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Fatalf("state %s after start", status.State)
		}
		r.eventually("the program has started", func() bool { return r.log(status.LogPath) == "waiting\n" })
		if _, err := r.runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 20}); err != nil {
			t.Fatal(err)
		}
		status = r.status(id)
		if status.State != runtimeapi.ContainerState_CONTAINER_EXITED || status.ExitCode != 0 || status.Reason != "Completed" || status.FinishedAt < status.StartedAt {
			t.Errorf("after SIGTERM: %v", status)
		}
		if log := r.log(status.LogPath); log != "waiting\nterminated\n" {
			t.Errorf("log %q", log)
		}
		if len(r.network.attached) != 1 || r.network.outside {
			t.Errorf("attached: %v, outside: %t", r.network.attached, r.network.outside)
		}
		r.remove(podID)
		r.remove(podID) // again, which is no error
		if len(r.network.attached) != 0 {
			t.Errorf("attached after removal: %v", r.network.attached)
		}
		if _, err := r.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id}); code(err) != codes.NotFound {
			t.Errorf("status of a removed container: %v", err)
		}
		if _, err := r.runtime.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: podID}); code(err) != codes.NotFound {
			t.Errorf("status of a removed pod: %v", err)
		}
	})
}

func code(err error) codes.Code { return status.Code(err) }

func TestSandboxStatusTellsAddressAndContainers(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod(func(c *runtimeapi.PodSandboxConfig) {
			c.Annotations = map[string]string{NetworkAnnotation: NetworkOutside}
			c.Labels = map[string]string{"app": "web"}
		})
		id := r.container(podID, pod, nil)
		got, err := r.runtime.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: podID})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY || got.Status.Network.Ip != "10.244.0.1" || !r.network.outside {
			t.Errorf("status %v, outside %t", got.Status, r.network.outside)
		}
		if len(got.ContainersStatuses) != 1 || got.ContainersStatuses[0].Id != id || got.Timestamp == 0 {
			t.Errorf("containers %v at %d", got.ContainersStatuses, got.Timestamp)
		}
		for labels, want := range map[string]int{"web": 1, "db": 0} {
			list, err := r.runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{
				Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": labels}}})
			if err != nil || len(list.Items) != want {
				t.Errorf("list of app=%s: %v, %v", labels, list, err)
			}
		}
		if _, err := r.runtime.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: podID}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err == nil {
			t.Error("a container started in a stopped sandbox")
		}
	})
}

func TestExitCodesAndReasons(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		for _, test := range []struct {
			args   []string
			code   int32
			reason string
		}{
			{[]string{"exit", "0"}, 0, "Completed"},
			{[]string{"exit", "7"}, 7, "Error"},
		} {
			log, status := r.run(nil, test.args...)
			if status.ExitCode != test.code || status.Reason != test.reason || log != "exiting\n" {
				t.Errorf("%v: exit code %d, reason %s, log %q", test.args, status.ExitCode, status.Reason, log)
			}
		}
	})
}

func TestKillEndsEverythingInTheContainer(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		id := r.container(podID, pod, nil, "spawn")
		r.start(id)
		log := r.status(id).LogPath
		r.eventually("the child runs", func() bool { return strings.Contains(r.log(log), "ignoring") })
		if _, err := r.runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
			t.Fatal(err)
		}
		if status := r.status(id); status.ExitCode != 128+9 || status.Reason != "Error" {
			t.Errorf("after SIGKILL: %v", status)
		}
		// The log has ended, so that nobody holds the pipe any more; this is
		// the proof by processes.
		directories, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			t.Fatal(err)
		}
		for _, directory := range directories {
			if line, _ := os.ReadFile(directory + "/cmdline"); strings.HasPrefix(string(line), "/app\x00") {
				t.Errorf("still running: %q", line)
			}
		}
	})
}

func TestGraceEndsInSIGKILL(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		id := r.container(podID, pod, nil, "ignore")
		r.start(id)
		log := r.status(id).LogPath
		r.eventually("the signal is ignored", func() bool { return r.log(log) != "" })
		before := time.Now()
		if _, err := r.runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
			t.Fatal(err)
		}
		if status := r.status(id); status.ExitCode != 128+9 {
			t.Errorf("after the grace period: %v", status)
		}
		if took := time.Since(before); took < time.Second {
			t.Errorf("killed after %s, before the grace period was over", took)
		}
	})
}

func TestLogsAreInTheCRIFormat(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		if log, _ := r.run(nil, "print", "no newline"); log != "no newline" {
			t.Errorf("log %q", log)
		}
		if log, _ := r.run(nil, "long"); log != strings.Repeat("x", 3*maxLogLine+5)+"\n" {
			t.Errorf("%d bytes of a long line came back", len(log))
		}
		podID, pod := r.pod()
		id := r.container(podID, pod, nil, "wait")
		r.start(id)
		path := r.status(id).LogPath
		r.eventually("the first line is there", func() bool { return r.log(path) == "waiting\n" })
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.runtime.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 20}); err != nil {
			t.Fatal(err)
		}
		if got, want := r.log(path), "terminated\n"; got != want {
			t.Errorf("log after reopening %q, want %q", got, want)
		}
		raw, err := os.ReadFile(path)
		if fields := strings.Fields(string(raw)); err != nil || len(fields) != 4 || fields[1] != "stdout" || fields[2] != "F" {
			t.Errorf("raw log %q, %v", raw, err)
		}
	})
}

func TestCommandIsFoundAsTheImageAndThePodSay(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		for name, command := range map[string]struct {
			command []string
			dir     string
			want    string
		}{
			"absolute":              {[]string{"/app", "print", "yes"}, "", "yes"},
			"relative to directory": {[]string{"./app", "print", "yes"}, "/usr/bin", "yes"},
			"by PATH":               {[]string{"app", "print", "yes"}, "", "yes"},
			"directory is made":     {[]string{"/app", "print", "yes"}, "/made/for/it", "yes"},
		} {
			log, status := r.run(func(c *runtimeapi.ContainerConfig) { c.Command, c.WorkingDir = command.command, command.dir })
			if log != command.want || status.ExitCode != 0 {
				t.Errorf("%s: exit code %d, log %q", name, status.ExitCode, log)
			}
		}
		podID, pod := r.pod()
		for name, command := range map[string]string{"not in PATH": "nothing", "no such file": "./app", "a directory": "/etc", "not executable": "/etc/hosts"} {
			id := r.container(podID, pod, func(c *runtimeapi.ContainerConfig) { c.Command = []string{command}; c.WorkingDir = "/tmp" })
			_, err := r.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("exec %q", command)) {
				t.Errorf("%s: start: %v", name, err)
			}
			if status := r.status(id); status.State != runtimeapi.ContainerState_CONTAINER_EXITED || status.ExitCode != 128 || status.Reason != "StartError" {
				t.Errorf("%s: %v", name, status)
			}
		}
	})
}

func TestEnvironmentAndIdentity(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		// With a single uid there is no other to be.
		pick := func(ranged, single string) string {
			if r.single {
				return single
			}
			return ranged
		}
		value := func(n int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: n} }
		for name, test := range map[string]struct {
			change func(*runtimeapi.LinuxContainerSecurityContext)
			want   string
		}{
			"image's user": {func(*runtimeapi.LinuxContainerSecurityContext) {}, pick("uid 2102 gid 0 groups []", "uid 0 gid 0 groups []")},
			"pod's user": {func(c *runtimeapi.LinuxContainerSecurityContext) {
				c.RunAsUser, c.RunAsGroup, c.SupplementalGroups = value(1000), value(1001), []int64{5, 7}
			}, pick("uid 1000 gid 1001 groups [5 7]", "uid 0 gid 0 groups []")},
			"by name": {func(c *runtimeapi.LinuxContainerSecurityContext) { c.RunAsUsername = "nobody" }, pick("uid 65534 gid 65534 groups []", "uid 0 gid 0 groups []")},
		} {
			log, _ := r.run(func(c *runtimeapi.ContainerConfig) { test.change(c.Linux.SecurityContext) }, "id")
			if want := test.want + " pid 1 dir / host pod\n"; log != want {
				t.Errorf("%s: %q, want %q", name, log, want)
			}
		}
		if !r.single {
			podID, pod := r.pod()
			_, err := r.tryContainer(podID, pod, func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.RunAsUser = value(100000) })
			if err == nil || !strings.Contains(err.Error(), "user 100000") {
				t.Errorf("an unmapped user: %v", err)
			}
		}
		log, _ := r.run(func(c *runtimeapi.ContainerConfig) {
			c.Envs = []*runtimeapi.KeyValue{{Key: "PATH", Value: []byte("/bin")}, {Key: "A", Value: []byte("b c")}}
		}, "env")
		if diff := cmp.Diff([]string{"HOSTNAME=pod", "HOME=/", "PATH=/bin", "A=b c"}, strings.Split(strings.TrimSpace(log), "\n")); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
	})
}

func TestAStandInRunsItsOwnCommandAndAnswersProbesWithYes(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		other := func(c *runtimeapi.ContainerConfig) {
			c.Image = &runtimeapi.ImageSpec{Image: "test/elsewhere"}
			c.Command, c.Args = []string{"/usr/sbin/nginx"}, []string{"-g", "daemon off;"}
			c.Linux.SecurityContext.RunAsUsername = "nginx"
		}
		if log, _ := r.run(other, "id"); !strings.HasPrefix(log, "uid ") {
			t.Errorf("in place of another program: %q", log)
		}
	})
}

func TestImages(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		for reference, present := range map[string]bool{"test/app:v1": true, "test/app": true, "library/nginx": false, "test/incomplete": false} {
			spec := &runtimeapi.ImageSpec{Image: reference}
			status, err := r.images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: spec})
			if err != nil || (status.Image != nil) != present {
				t.Errorf("status of %s: %v, %v", reference, status, err)
			}
			_, err = r.images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: spec})
			if present && err != nil || !present && (code(err) != codes.NotFound || !strings.Contains(err.Error(), reference)) {
				t.Errorf("pull of %s: %v", reference, err)
			}
			_, err = r.tryContainer(podID, pod, func(c *runtimeapi.ContainerConfig) { c.Image = spec })
			if present != (err == nil) {
				t.Errorf("container of %s: %v", reference, err)
			}
		}
		status, err := r.images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "test/app:v1"}})
		if err != nil {
			t.Fatal(err)
		}
		if image := status.Image; image.Uid.GetValue() != 2102 || image.Size == 0 {
			t.Errorf("image %v", image)
		}
		// The kubelet creates containers by the ID it is told.
		r.container(podID, pod, func(c *runtimeapi.ContainerConfig) { c.Image.Image = status.Image.Id })
		list, err := r.images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
		if err != nil || len(list.Images) != 2 {
			t.Errorf("list: %v, %v", list, err)
		}
		usage, err := r.images.ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{})
		if err != nil || usage.ImageFilesystems[0].UsedBytes.Value == 0 {
			t.Errorf("file system: %v, %v", usage, err)
		}
	})
}
