package cri

import (
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPodLife(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		id := r.container(podID, pod, nil, "wait")
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
		if len(r.network.attached) != 1 {
			t.Errorf("attached: %v", r.network.attached)
		}
		r.remove(podID)
		if len(r.network.attached) != 0 {
			t.Errorf("attached after removal: %v", r.network.attached)
		}
	})
}
