package cri

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (r *rig) exec(id string, command ...string) *runtimeapi.ExecSyncResponse {
	r.Helper()
	response, err := r.runtime.ExecSync(r.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command})
	if err != nil {
		r.Fatal(err)
	}
	return response
}

func (r *rig) runningApp(change func(*runtimeapi.ContainerConfig), args ...string) (podID, id string) {
	r.Helper()
	podID, pod := r.pod()
	id = r.container(podID, pod, change, args...)
	r.start(id)
	return podID, id
}

func TestExecSync(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		_, id := r.runningApp(func(c *runtimeapi.ContainerConfig) { c.WorkingDir = "/usr" }, "wait")
		if got := r.exec(id, "/app", "print", "out"); string(got.Stdout) != "out" || len(got.Stderr) != 0 || got.ExitCode != 0 {
			t.Errorf("print: %v", got)
		}
		if got := r.exec(id, "app", "exit", "3"); len(got.Stdout) != 0 || string(got.Stderr) != "exiting\n" || got.ExitCode != 3 {
			t.Errorf("exit: %v", got)
		}
		// The same user, groups, directory, name and PID namespace.
		want := "uid 2102 gid 0 groups [] pid "
		if r.single {
			want = "uid 0 gid 0 groups [] pid "
		}
		got := string(r.exec(id, "./bin/app", "id").Stdout)
		if !strings.HasPrefix(got, want) || strings.Contains(got, "pid 1 ") || !strings.HasSuffix(got, " dir /usr host pod\n") {
			t.Errorf("id: %q", got)
		}
		for _, command := range []string{"mark", "nft"} {
			if got := r.exec(id, "app", command); got.ExitCode == 0 {
				t.Errorf("%s by exec is allowed", command)
			}
		}
		inside, outside := string(r.exec(id, "app", "status").Stdout), r.exec(id, "app", "cat", "/proc/1/status").Stdout
		for _, line := range []string{"CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Uid", "Gid"} {
			if a, b := field(inside, line), field(string(outside), line); a != b {
				t.Errorf("%s is %s by exec and %s in the container", line, a, b)
			}
		}
		_, err := r.runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"nothing"}})
		if err == nil || !strings.Contains(err.Error(), `exec "nothing"`) {
			t.Errorf("a missing command: %v", err)
		}
		_, err = r.runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"app", "ignore"}, Timeout: 1})
		if code(err) != codes.DeadlineExceeded {
			t.Errorf("a command that takes too long: %v", err)
		}
		if got := string(r.exec(id, "app", "ls", "/proc").Stdout); strings.Count(got, "\n") == 0 || processes(got) != 2 {
			t.Errorf("processes after the time-out: %q", got)
		}
		if _, err := r.runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 20}); err != nil {
			t.Fatal(err)
		}
		if _, err = r.runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"app"}}); code(err) != codes.FailedPrecondition {
			t.Errorf("exec in an ended container: %v", err)
		}
	})
}

// processes counts the process directories in a listing of /proc.
func processes(listing string) int {
	n := 0
	for line := range strings.Lines(listing) {
		if line[0] >= '0' && line[0] <= '9' {
			n++
		}
	}
	return n
}

func field(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "absent"
}

// stream opens an exec or attach stream as kubectl does.
func (r *rig) stream(address string, options remotecommand.StreamOptions) error {
	r.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		r.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, parsed)
	if err != nil {
		r.Fatal(err)
	}
	return executor.StreamWithContext(r.Context(), options)
}

func TestExecStreams(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		_, id := r.runningApp(nil, "wait")
		open := func(tty, stdin bool, command ...string) string {
			response, err := r.runtime.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: command, Tty: tty, Stdin: stdin, Stdout: true, Stderr: !tty})
			if err != nil {
				t.Fatal(err)
			}
			return response.Url
		}
		var out, errOut bytes.Buffer
		err := r.stream(open(false, true, "app", "echo"), remotecommand.StreamOptions{Stdin: strings.NewReader("some text"), Stdout: &out, Stderr: &errOut})
		if err != nil || out.String() != "some text" || errOut.Len() != 0 {
			t.Errorf("echo: %v, %q, %q", err, out.String(), errOut.String())
		}
		out.Reset()
		err = r.stream(open(false, false, "app", "exit", "5"), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
		var exit interface{ ExitStatus() int }
		if !errors.As(err, &exit) || exit.ExitStatus() != 5 || errOut.String() != "exiting\n" {
			t.Errorf("exit: %v, %q", err, errOut.String())
		}
		err = r.stream(open(true, false, "app", "tty"), remotecommand.StreamOptions{Stdout: &out, Tty: true})
		if err != nil || !strings.HasPrefix(out.String(), "terminal true /dev/pts/") {
			t.Errorf("terminal: %v, %q", err, out.String())
		}
		err = r.stream(open(false, false, "nothing"), remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard})
		if err == nil || !strings.Contains(err.Error(), `exec "nothing"`) {
			t.Errorf("a missing command: %v", err)
		}
	})
}

func TestAttach(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		for _, tty := range []bool{false, true} {
			_, id := r.runningApp(func(c *runtimeapi.ContainerConfig) { c.Stdin, c.StdinOnce, c.Tty = true, true, tty }, "echo")
			response, err := r.runtime.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: !tty, Tty: tty})
			if err != nil {
				t.Fatal(err)
			}
			// Its end is the end of the container's input, in a terminal by ^D.
			input, want := "a line\n", "a line\n"
			if tty {
				input, want = "a line\n\x04", "a line\r\na line\r\n"
			}
			var out bytes.Buffer
			options := remotecommand.StreamOptions{Stdin: strings.NewReader(input), Stdout: &out, Tty: tty}
			if !tty {
				options.Stderr = io.Discard
			}
			if err := r.stream(response.Url, options); err != nil || out.String() != want {
				t.Errorf("terminal %t: %v, %q", tty, err, out.String())
			}
			if status := r.exited(id); status.ExitCode != 0 || !strings.Contains(r.log(status.LogPath), "a line") {
				t.Errorf("terminal %t: %v, log %q", tty, status, r.log(status.LogPath))
			}
		}
	})
}

func TestAttachThatIsNotReadDoesNotKeepAContainer(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		_, id := r.runningApp(func(c *runtimeapi.ContainerConfig) { c.Stdin = true }, "echo")
		c, err := r.server.container(id)
		if err != nil {
			t.Fatal(err)
		}
		stuck := c.streams.attach()
		input := c.streams.input()
		for i := range watcherBacklog + 1 {
			if _, err := input.Write([]byte("text\n")); err != nil {
				t.Fatal(err)
			}
			if i == watcherBacklog {
				break // the one that no longer fits
			}
			// One by one, or they would be one chunk.
			r.eventually("the line is logged", func() bool { return strings.Count(r.log(c.log.path), "\n") == i+1 })
		}
		c.streams.closeInput()
		if status := r.exited(id); status.ExitCode != 0 {
			t.Errorf("status %v", status)
		}
		<-stuck.gone
		if lines := strings.Count(r.log(c.log.path), "\n"); lines != watcherBacklog+1 {
			t.Errorf("%d lines logged, want all %d", lines, watcherBacklog+1)
		}
	})
}

func TestPortForward(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, id := r.runningApp(nil, "serve", "127.0.0.1:8080")
		r.eventually("the server listens", func() bool { return r.log(r.status(id).LogPath) == "serving\n" })
		forward := func(port string) (io.ReadWriteCloser, func() string) {
			response, err := r.runtime.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: podID})
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := url.Parse(response.Url)
			if err != nil {
				t.Fatal(err)
			}
			transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
			if err != nil {
				t.Fatal(err)
			}
			connection, _, err := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, parsed).Dial(portforward.PortForwardProtocolV1Name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { connection.Close() })
			headers := http.Header{}
			headers.Set("streamType", "error")
			headers.Set("port", port)
			headers.Set("requestID", "1")
			failures, err := connection.CreateStream(headers)
			if err != nil {
				t.Fatal(err)
			}
			headers.Set("streamType", "data")
			data, err := connection.CreateStream(headers)
			if err != nil {
				t.Fatal(err)
			}
			return data, func() string { text, _ := io.ReadAll(failures); return string(text) }
		}
		data, failures := forward("8080")
		if _, err := io.WriteString(data, "and good bye"); err != nil {
			t.Fatal(err)
		}
		data.Close() // half: the answer is still read
		if got, err := io.ReadAll(data); err != nil || string(got) != "hello and good bye" {
			t.Errorf("forwarded: %q, %v", got, err)
		}
		if got := failures(); got != "" {
			t.Errorf("error stream: %q", got)
		}
		_, failures = forward("8081")
		if got := failures(); !strings.Contains(got, "refused") {
			t.Errorf("a port without listener: %q", got)
		}
	})
}

// The kubelet falls back to asking when it gets this answer.
func TestThereIsNoEventFeed(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		stream, err := r.runtime.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "EventedPLEG") {
			t.Errorf("got %v, want Unimplemented and the gate's name", err)
		}
	})
}

func TestStats(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, id := r.runningApp(nil, "wait")
		r.eventually("the program has started", func() bool { return r.log(r.status(id).LogPath) == "waiting\n" })
		stats, err := r.runtime.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		if got := stats.Stats; got.Memory.WorkingSetBytes.Value < 1<<20 || got.Memory.RssBytes.Value == 0 || got.Memory.RssBytes.Value > got.Memory.WorkingSetBytes.Value {
			t.Errorf("memory: %v", got.Memory)
		}
		pod, err := r.runtime.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: podID})
		if err != nil || pod.Stats.Linux.Process.ProcessCount.Value != 1 || len(pod.Stats.Linux.Containers) != 1 {
			t.Errorf("pod: %v, %v", pod, err)
		}
		metrics, err := r.runtime.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		descriptors, err := r.runtime.ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
		if err != nil || len(metrics.PodMetrics) != 1 || len(metrics.PodMetrics[0].ContainerMetrics[0].Metrics) != len(descriptors.Descriptors) {
			t.Errorf("metrics: %v, described: %v, %v", metrics, descriptors, err)
		}
		r.remove(podID)
		if _, err := r.runtime.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id}); code(err) != codes.NotFound {
			t.Errorf("stats of a removed container: %v", err)
		}
	})
}
