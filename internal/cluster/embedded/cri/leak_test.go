package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// footprint is what a pod could leave behind in the runtime's process.
type footprint struct {
	mounts, descriptors, networks, processes int
	shared                                   string
}

func (r *rig) footprint() footprint {
	r.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		r.Fatal(err)
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		r.Fatal(err)
	}
	// A network namespace lives by processes, threads and descriptors.
	networks := map[string]bool{}
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		links, err := filepath.Glob(pattern)
		if err != nil {
			r.Fatal(err)
		}
		for _, link := range links {
			if target, _ := os.Readlink(link); strings.HasPrefix(target, "net:") {
				networks[target] = true
			}
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		r.Fatal(err)
	}
	shared, err := os.ReadDir(r.server.sharedMemory())
	if err != nil {
		r.Fatal(err)
	}
	return footprint{strings.Count(string(mounts), "\n"), len(descriptors), len(networks), len(processes), fmt.Sprint(shared)}
}

// resident is this process's memory in bytes after everything unused was given
// back.
func (r *rig) resident() uint64 {
	r.Helper()
	debug.FreeOSMemory()
	resident, _, err := memory("/proc/self")
	if err != nil {
		r.Fatal(err)
	}
	return resident
}

func TestPodsLeaveNothingBehind(t *testing.T) {
	const pods, atOnce, rounds = 50, 10, 2
	// What 50 pods may leave in memory by fragmentation; a leaked buffer per
	// container and round would be more.
	const slack = 4 << 20
	inNamespaces(t, func(t *testing.T, r *rig) {
		all := func() {
			gate := make(chan struct{}, atOnce)
			var running sync.WaitGroup
			for i := range pods {
				gate <- struct{}{}
				running.Go(func() {
					defer func() { <-gate }()
					podID, pod := r.pod()
					ended := r.container(podID, pod, nil, "exit", "0")
					r.start(ended)
					id := r.container(podID, pod, func(c *runtimeapi.ContainerConfig) {
						c.LogPath, c.Stdin, c.Tty = "two/0.log", i%2 == 0, i%3 == 0
					}, "wait")
					r.start(id)
					if got := r.exec(id, "app", "print", "x"); string(got.Stdout) != "x" {
						t.Errorf("exec: %v", got)
					}
					failing := r.container(podID, pod, func(c *runtimeapi.ContainerConfig) { c.Command = []string{"nothing"}; c.LogPath = "three/0.log" })
					if _, err := r.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: failing}); err == nil {
						t.Error("a missing command was started")
					}
					r.remove(podID)
				})
			}
			running.Wait()
		}
		all() // the first time fills pools and makes connections
		before, memoryBefore := r.footprint(), r.resident()
		goroutines := runtime.NumGoroutine()
		for range rounds {
			all()
		}
		r.eventually("everything is as before", func() bool { return r.footprint() == before })
		if after := r.resident(); after > memoryBefore+slack {
			t.Errorf("resident memory grew from %d to %d bytes over %d pods", memoryBefore, after, rounds*pods)
		}
		r.eventually("all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
		if before.networks != 1 || before.shared != "[]" {
			t.Errorf("footprint without pods: %+v", before)
		}
	})
}

func TestASandboxCanBeStoppedWhileItsContainersStart(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		before := r.footprint()
		for i := range 100 {
			podID, pod := r.pod()
			id := r.container(podID, pod, nil, "wait")
			var starting sync.WaitGroup
			starting.Go(func() {
				// Either is right: it was first, or it came too late.
				_, _ = r.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
			})
			if i%2 == 0 {
				runtime.Gosched()
			}
			if _, err := r.runtime.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: podID}); err != nil {
				t.Fatal(err)
			}
			starting.Wait()
			if state := r.status(id).State; state == runtimeapi.ContainerState_CONTAINER_RUNNING {
				t.Fatal("a container runs in a stopped sandbox")
			}
			r.remove(podID)
		}
		after := r.footprint()
		if after.processes != before.processes || after.mounts != before.mounts || after.networks != before.networks {
			t.Errorf("footprint %+v before, %+v after", before, after)
		}
	})
}

func TestEndOfServiceEndsEverything(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		for range 3 {
			podID, _ := r.runningApp(nil, "ignore")
			_ = podID
		}
		mounts := r.footprint().mounts
		r.stop()
		if len(r.network.attached) != 0 {
			t.Errorf("attached after the end: %v", r.network.attached)
		}
		processes, err := filepath.Glob("/proc/[0-9]*")
		if err != nil || len(processes) != 1 {
			t.Errorf("processes after the end: %v, %v", processes, err)
		}
		text, err := os.ReadFile("/proc/self/mountinfo")
		if after := strings.Count(string(text), "\n"); err != nil || after != mounts-1 {
			t.Errorf("%d mounts with the runtime, %d after its end, %v", mounts, after, err)
		}
		goleak.VerifyNone(t)
	})
}

// TestFigures asserts nothing: -v shows what things take.
func TestFigures(t *testing.T) {
	if testing.Short() || !testing.Verbose() && os.Getenv(insideVariable) == "" {
		t.Skip("only measures")
	}
	inNamespaces(t, func(t *testing.T, r *rig) {
		const n = 50
		var sandbox, start, exec, remove time.Duration
		lap := func(sum *time.Duration, f func()) {
			began := time.Now()
			f()
			*sum += time.Since(began)
		}
		for range n {
			var podID, id string
			var pod *runtimeapi.PodSandboxConfig
			lap(&sandbox, func() { podID, pod = r.pod() })
			id = r.container(podID, pod, nil, "wait")
			lap(&start, func() { r.start(id) })
			lap(&exec, func() { r.exec(id, "app", "print", "x") })
			lap(&remove, func() { r.remove(podID) })
		}
		t.Logf("mean of %d: sandbox %s, container start %s, exec %s, removal %s", n, sandbox/n, start/n, exec/n, remove/n)
	})
}
