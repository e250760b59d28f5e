package cri

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func withCapabilities(add, drop []string) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) {
		c.Image.Image = "test/root"
		c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: add, DropCapabilities: drop}
	}
}

func TestAContainerCannotTouchTheNetworkUnlessTold(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		for _, test := range []struct {
			name   string
			change func(*runtimeapi.ContainerConfig)
			mark   bool
			nft    bool
		}{
			{"an application", nil, false, false},
			{"an application as root", withCapabilities(nil, nil), false, false},
			{"NET_RAW added", withCapabilities([]string{"NET_RAW"}, nil), true, false},
			{"NET_ADMIN added", withCapabilities([]string{"CAP_NET_ADMIN"}, []string{"ALL"}), true, true},
			{"everything dropped", withCapabilities(nil, []string{"ALL"}), false, false},
			{"everything but the network", withCapabilities([]string{"ALL"}, []string{"NET_ADMIN", "NET_RAW"}), false, false},
			{"privileged", func(c *runtimeapi.ContainerConfig) {
				c.Image.Image = "test/root"
				c.Linux.SecurityContext.Privileged = true
			}, true, true},
		} {
			for command, allowed := range map[string]bool{"mark": test.mark, "nft": test.nft} {
				log, status := r.run(test.change, command)
				if allowed != (status.ExitCode == 0) {
					t.Errorf("%s: %s: exit code %d: %s", test.name, command, status.ExitCode, log)
				}
				if !allowed && !strings.Contains(log, unix.EPERM.Error()) {
					t.Errorf("%s: %s failed for another reason: %s", test.name, command, log)
				}
				if allowed {
					continue
				}
				// All capabilities over a namespace of one's own do not help.
				if log, status := r.run(test.change, "in-user-namespace", command); status.ExitCode == 0 || !strings.Contains(log, unix.EPERM.Error()) {
					t.Errorf("%s: %s in a user namespace: exit code %d: %s", test.name, command, status.ExitCode, log)
				}
			}
		}
	})
}

func TestNoDescriptorOfTheRuntimeReachesAContainer(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		const want = "/dev/null pipe pipe\n"
		if log, _ := r.run(nil, "descriptors"); log != want {
			t.Errorf("descriptors of a container: %q", log)
		}
		_, id := r.runningApp(nil, "wait")
		if got := string(r.exec(id, "app", "descriptors").Stdout); got != want {
			t.Errorf("descriptors by exec: %q", got)
		}
	})
}

func TestCapabilitySetsAsTheProcessSeesThem(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		sets := func(change func(*runtimeapi.ContainerConfig)) map[string]string {
			log, _ := r.run(change, "status")
			found := map[string]string{}
			for line := range strings.Lines(log) {
				if key, value, ok := strings.Cut(line, ":"); ok {
					found[key] = strings.TrimSpace(value)
				}
			}
			return found
		}
		hex := func(set uint64) string { return fmt.Sprintf("%016x", set) }
		check := func(what string, got map[string]string, want map[string]string) {
			t.Helper()
			for key, value := range want {
				if got[key] != value {
					t.Errorf("%s: %s is %s, want %s", what, key, got[key], value)
				}
			}
		}
		check("root", sets(withCapabilities(nil, nil)), map[string]string{
			"CapBnd": hex(defaultCapabilities), "CapPrm": hex(defaultCapabilities), "CapEff": hex(defaultCapabilities),
			"CapInh": hex(0), "CapAmb": hex(0), "NoNewPrivs": "1",
		})
		raw := uint64(1 << unix.CAP_NET_RAW)
		check("root with only NET_RAW", sets(withCapabilities([]string{"net_raw"}, []string{"all"})), map[string]string{
			"CapBnd": hex(raw), "CapPrm": hex(raw), "CapEff": hex(raw),
		})
		effective := uint64(0)
		if r.single {
			effective = raw // uid 0 all the same
		}
		check("another user with NET_RAW", sets(func(c *runtimeapi.ContainerConfig) {
			withCapabilities([]string{"NET_RAW"}, []string{"ALL"})(c)
			c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 2102}
		}), map[string]string{"CapBnd": hex(raw), "CapEff": hex(effective)})
		check("another user with ambient NET_RAW", sets(func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 2102}
			c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"NET_RAW"}}
		}), map[string]string{"CapBnd": hex(raw), "CapEff": hex(raw), "CapAmb": hex(raw)})

		podID, pod := r.pod()
		if _, err := r.tryContainer(podID, pod, withCapabilities([]string{"NET_RAWW"}, nil)); err == nil || !strings.Contains(err.Error(), "NET_RAWW") {
			t.Errorf("an unknown capability: %v", err)
		}
	})
}

func TestMounts(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		volume := "/mnt/volume"
		if err := os.MkdirAll(volume+"/sub", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(volume+"/file", []byte("content"), 0o666); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{volume, volume + "/file"} { // whatever the umask
			if err := os.Chmod(path, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		// What a hostile container may have left for the next one.
		for _, link := range [][2]string{{"/etc", "trap"}, {"/mnt/volume", "loop"}} {
			if err := os.Symlink(link[0], volume+"/"+link[1]); err != nil {
				t.Fatal(err)
			}
		}
		mount := func(change ...func(*runtimeapi.Mount)) func(*runtimeapi.ContainerConfig) {
			return func(c *runtimeapi.ContainerConfig) {
				m := &runtimeapi.Mount{HostPath: volume, ContainerPath: "/data"}
				for _, f := range change {
					f(m)
				}
				c.Mounts = append(c.Mounts, m)
			}
		}
		readOnly := func(m *runtimeapi.Mount) { m.Readonly = true }
		readOnlyRoot := func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }
		asRoot := func(c *runtimeapi.ContainerConfig) { c.Image.Image = "test/root" }
		for _, test := range []struct {
			name   string
			change []func(*runtimeapi.ContainerConfig)
			args   []string
			want   string // substring of the log
			code   int32
		}{
			{"reads a volume", []func(*runtimeapi.ContainerConfig){mount()}, []string{"cat", "/data/file"}, "content", 0},
			{"writes a volume", []func(*runtimeapi.ContainerConfig){mount()}, []string{"write", "/data/file", "content"}, "", 0},
			{"does not write a read-only volume", []func(*runtimeapi.ContainerConfig){mount(readOnly)}, []string{"write", "/data/file", "x"}, unix.EROFS.Error(), 1},
			{"mounts a single file", []func(*runtimeapi.ContainerConfig){mount(func(m *runtimeapi.Mount) { m.HostPath, m.ContainerPath = volume+"/file", "/a/b/c" })}, []string{"cat", "/a/b/c"}, "content", 0},
			{"mounts over a default file", []func(*runtimeapi.ContainerConfig){mount(func(m *runtimeapi.Mount) { m.HostPath, m.ContainerPath = volume+"/file", "/etc/hosts" })}, []string{"cat", "/etc/hosts"}, "content", 0},
			{"mounts the termination log", []func(*runtimeapi.ContainerConfig){mount(func(m *runtimeapi.Mount) {
				m.HostPath, m.ContainerPath = volume+"/file", "/dev/termination-log"
			})}, []string{"cat", "/dev/termination-log"}, "content", 0},
			{"mounts nested volumes whatever their order", []func(*runtimeapi.ContainerConfig){
				mount(func(m *runtimeapi.Mount) { m.HostPath, m.ContainerPath = "/mnt/logs", "/data/sub" }), mount(),
			}, []string{"cat", "/data/file"}, "content", 0},
			{"a link in a volume leads nowhere but into the container", []func(*runtimeapi.ContainerConfig){
				mount(), mount(func(m *runtimeapi.Mount) { m.HostPath, m.ContainerPath = "/mnt/logs", "/data/trap/x" }),
			}, []string{"ls", "/etc"}, "x\n", 0},
			{"writes its root", []func(*runtimeapi.ContainerConfig){asRoot}, []string{"write", "/new", "x"}, "", 0},
			{"writes /tmp as anybody", nil, []string{"write", "/tmp/new", "x"}, "", 0},
			{"does not write a read-only root", []func(*runtimeapi.ContainerConfig){asRoot, readOnlyRoot}, []string{"write", "/new", "x"}, unix.EROFS.Error(), 1},
			{"writes a volume in a read-only root", []func(*runtimeapi.ContainerConfig){asRoot, readOnlyRoot, mount()}, []string{"write", "/data/file", "content"}, "", 0},
			{"does not write the image", []func(*runtimeapi.ContainerConfig){asRoot}, []string{"write", "/app", "x"}, "write: open /app", 1},
			{"sees nothing of the node", nil, []string{"ls", "/"}, "app\ndev\netc\nproc\nrun\ntmp\nusr\nvar\n", 0},
			{"has the pod's resolver", nil, []string{"cat", "/etc/resolv.conf"}, "nameserver 10.96.0.10\nsearch ns.svc.cluster.local\noptions ndots:5\n", 0},
			{"has devices", nil, []string{"write", "/dev/null", "x"}, "", 0},
			{"opens its output by name", nil, []string{"write", "/dev/stdout", "named"}, "named", 0},
			{"has no hidden path", []func(*runtimeapi.ContainerConfig){asRoot, func(c *runtimeapi.ContainerConfig) {
				c.Linux.SecurityContext.MaskedPaths = []string{"/proc/kcore", "/proc/sys", "/no/such"}
			}}, []string{"cat", "/proc/sys/kernel/hostname"}, unix.ENOENT.Error(), 1},
			{"does not write a protected path", []func(*runtimeapi.ContainerConfig){asRoot, func(c *runtimeapi.ContainerConfig) {
				c.Linux.SecurityContext.ReadonlyPaths = []string{"/proc/sys", "/no/such"}
			}}, []string{"write", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "80"}, unix.EROFS.Error(), 1},
		} {
			log, status := r.run(func(c *runtimeapi.ContainerConfig) {
				for _, f := range test.change {
					f(c)
				}
			}, test.args...)
			if status.ExitCode != test.code || !strings.Contains(log, test.want) {
				t.Errorf("%s: exit code %d, log %q", test.name, status.ExitCode, log)
			}
		}
		if _, err := os.Stat("/etc/x"); err == nil {
			t.Error("a link in a volume led out of the container")
		}
		podID, pod := r.pod()
		if _, err := r.tryContainer(podID, pod, mount(func(m *runtimeapi.Mount) { m.HostPath = "/mnt/nothing" })); err == nil || !strings.Contains(err.Error(), "/mnt/nothing") {
			t.Errorf("a missing host path: %v", err)
		}
	})
}

func TestContainersOfAPodShareMemoryNetworkAndName(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		one := r.container(podID, pod, nil, "serve", "127.0.0.1:80") // any port, as any user
		r.start(one)
		r.eventually("the server listens", func() bool { return r.log(r.status(one).LogPath) == "serving\n" })
		two := r.container(podID, pod, func(c *runtimeapi.ContainerConfig) { c.LogPath = "two/0.log" }, "serve", "127.0.0.1:80")
		r.start(two)
		if log := r.log(r.exited(two).LogPath); !strings.Contains(log, unix.EADDRINUSE.Error()) {
			t.Errorf("the same port in the same pod: %q", log)
		}
		if response := r.exec(one, "/app", "write", "/dev/shm/shared", "x"); response.ExitCode != 0 {
			t.Errorf("write to shared memory: %s", response.Stdout)
		}
		three := r.container(podID, pod, func(c *runtimeapi.ContainerConfig) { c.LogPath = "three/0.log" }, "cat", "/dev/shm/shared")
		r.start(three)
		if log := r.log(r.exited(three).LogPath); log != "x" {
			t.Errorf("shared memory holds %q", log)
		}
		// Another pod has a port 80 of its own.
		otherID, other := r.pod()
		four := r.container(otherID, other, nil, "serve", "127.0.0.1:80")
		r.start(four)
		r.eventually("the other pod's server listens", func() bool { return r.log(r.status(four).LogPath) == "serving\n" })
	})
}

func TestSysctls(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod(func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "40000\t41000"}
		})
		id := r.container(podID, pod, nil, "wait")
		r.start(id)
		groups := "0\t65535\n"
		if r.single {
			groups = "0\t0\n"
		}
		for name, want := range map[string]string{"ip_local_port_range": "40000\t41000\n", "ping_group_range": groups, "ip_unprivileged_port_start": "0\n"} {
			if got := string(r.exec(id, "app", "cat", "/proc/sys/net/ipv4/"+name).Stdout); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for name, value := range map[string]string{"net.no.such": "1", "kernel.panic": "1"} {
			config := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "pod"}, Linux: &runtimeapi.LinuxPodSandboxConfig{
				Sysctls: map[string]string{name: value}, SecurityContext: pod.Linux.SecurityContext}}
			if _, err := r.runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config}); err == nil || !strings.Contains(err.Error(), "set sysctl") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := len(r.network.attached); n != 1 {
			t.Errorf("%d pods attached, want the one that started", n)
		}
	})
}

func TestHostNetwork(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod(func(c *runtimeapi.PodSandboxConfig) {
			c.Hostname = ""
			c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		})
		id := r.container(podID, pod, nil, "serve", "127.0.0.1:0")
		r.start(id)
		if len(r.network.attached) != 0 {
			t.Error("a pod in the node's network was attached")
		}
		node, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		verbose, err := r.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink("/proc/" + verbose.Info["pid"] + "/ns/net"); got != node {
			t.Errorf("network namespace %s, %v, want the node's %s", got, err, node)
		}
	})
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		for name, change := range map[string]func(*runtimeapi.NamespaceOption){
			"shareProcessNamespace": func(o *runtimeapi.NamespaceOption) { o.Pid = runtimeapi.NamespaceMode_POD },
			"hostPID":               func(o *runtimeapi.NamespaceOption) { o.Pid = runtimeapi.NamespaceMode_NODE },
			"hostUsers":             func(o *runtimeapi.NamespaceOption) { o.UsernsOptions = &runtimeapi.UserNamespace{} },
		} {
			config := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "pod"}, Linux: &runtimeapi.LinuxPodSandboxConfig{
				SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
			change(config.Linux.SecurityContext.NamespaceOptions)
			if _, err := r.runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
