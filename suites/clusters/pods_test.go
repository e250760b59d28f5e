package clusters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/klient/wait/conditions"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"github.com/meshproof/meshproof/workloads/echo"
	"github.com/meshproof/meshproof/workloads/images"
	"github.com/meshproof/meshproof/workloads/probed"
)

// pod is one of this suite's pods; args choose the role of the agent, or are
// grpcurl's.
func pod(namespace, name, image string, args ...string) *corev1.Pod {
	no, yes, user := false, true, int64(images.User)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64),
			SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: name, Image: image, Args: args, ImagePullPolicy: corev1.PullIfNotPresent,
				SecurityContext: &corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, AllowPrivilegeEscalation: &no,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}}},
	}
}

func TestTheNodeIsReady(t *testing.T) {
	needs(t)
	suite.env.Test(t, features.New("nodes").
		Assess("every node is Ready, and as many take pods as the capabilities say", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			var nodes corev1.NodeList
			if err := config.Client().Resources().List(ctx, &nodes); err != nil {
				t.Fatal(err)
			}
			free := 0
			for _, node := range nodes.Items {
				if !ready(node) {
					t.Errorf("node %s is not Ready: %+v", node.Name, node.Status.Conditions)
				}
				if len(node.Spec.Taints) == 0 && !node.Spec.Unschedulable {
					free++
				}
			}
			if want := suite.adapter.Cluster().Capabilities().Nodes; free != want {
				t.Errorf("%d nodes take pods, the capabilities say %d", free, want)
			}
			return ctx
		}).Feature())
}

func TestPodsRunAndAreReached(t *testing.T) {
	needs(t)
	const name = "echo"
	feature := features.New("pods").
		Setup(func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			client := config.Client().Resources()
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: config.Namespace()}, Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(echo.PortGRPC)}}}}
			p := pod(config.Namespace(), name, images.Agent, "echo")
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1,
				ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(echo.PortGRPC)}}}
			if err := errors.Join(client.Create(ctx, p), client.Create(ctx, service)); err != nil {
				t.Fatal(err)
			}
			return ctx
		}).
		Assess("a pod of this project's image becomes ready", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			client := config.Client().Resources()
			p := pod(config.Namespace(), name, images.Agent)
			if err := soon(ctx, conditions.New(client).PodReady(p)); err != nil {
				t.Fatalf("%v: %s", err, tell(ctx, config, name))
			}
			return ctx
		}).
		Assess("a Service's name resolves, and its address reaches the pod", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			asks(ctx, t, config, "by-name", fmt.Sprintf("%s.%s.svc.cluster.local:80", name, config.Namespace()))
			return ctx
		}).
		Assess("a ClusterIP reaches the pod without DNS", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			var service corev1.Service
			if err := config.Client().Resources().Get(ctx, name, config.Namespace(), &service); err != nil {
				t.Fatal(err)
			}
			asks(ctx, t, config, "by-address", service.Spec.ClusterIP+":80")
			return ctx
		}).
		Assess("commands run in a pod and say how they ended", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			var out, errOut bytes.Buffer
			err := config.Client().Resources().ExecInPod(ctx, config.Namespace(), name, name, []string{"/usr/local/bin/meshproof-agent"}, &out, &errOut)
			if err == nil || !strings.Contains(err.Error(), "exit code 4") {
				t.Errorf("error %v, want one that tells of exit code 4", err)
			}
			if !strings.Contains(errOut.String(), "usage: meshproof-agent") {
				t.Errorf("the command wrote %q to its standard error", errOut.String())
			}
			return ctx
		}).
		Assess("a port of a pod is forwarded", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			address := forward(t, config, name, echo.PortHTTP)
			response, err := http.Get("http://" + address + "/")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("status %s, body %q, error %v", response.Status, body, err)
			}
			return ctx
		}).
		Feature()
	suite.env.Test(t, feature)
}

// asks runs a pod that calls a gRPC server, and takes its exit code and its log
// for the answer.
func asks(ctx context.Context, t *testing.T, config *envconf.Config, name, address string) {
	t.Helper()
	client := config.Client().Resources()
	p := pod(config.Namespace(), name, grpcurl, "-plaintext", "-connect-timeout", "20", address, "list")
	if err := client.Create(ctx, p); err != nil {
		t.Fatal(err)
	}
	err := soon(ctx, conditions.New(client).ResourceMatch(p, func(object k8s.Object) bool {
		phase := object.(*corev1.Pod).Status.Phase
		return phase == corev1.PodSucceeded || phase == corev1.PodFailed
	}))
	if err != nil {
		t.Fatalf("%v: %s", err, tell(ctx, config, name))
	}
	log, err := clientset(t, config).CoreV1().Pods(config.Namespace()).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if p.Status.Phase != corev1.PodSucceeded || !strings.Contains(string(log), "meshproof.echo.v1.Echo") {
		t.Errorf("the caller of %s is %s, its log: %s", address, p.Status.Phase, log)
	}
}

func TestReadinessFollowsTheProbe(t *testing.T) {
	needs(t)
	const name = "probed"
	probe, _ := probed.Find("http-ready")
	isReady := func(want corev1.ConditionStatus) features.Func {
		return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			client := config.Client().Resources()
			if err := soon(ctx, conditions.New(client).PodConditionMatch(pod(config.Namespace(), name, images.Agent), corev1.PodReady, want)); err != nil {
				t.Fatalf("%v: %s", err, tell(ctx, config, name))
			}
			return ctx
		}
	}
	becomes := func(healthy bool) features.Func {
		return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			address := forward(t, config, name, probed.PortControl)
			response, err := http.Post(fmt.Sprintf("http://%s/probes?name=%s&healthy=%t", address, probe.Name, healthy), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode >= http.StatusMultipleChoices {
				t.Fatalf("the pod answers %s", response.Status)
			}
			return ctx
		}
	}
	feature := features.New("readiness").
		Setup(func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			p := pod(config.Namespace(), name, images.Agent, "probed")
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1,
				ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: probed.Path, Port: intstr.FromInt(probe.Port)}}}
			if err := config.Client().Resources().Create(ctx, p); err != nil {
				t.Fatal(err)
			}
			return ctx
		}).
		Assess("a pod whose probe succeeds is ready", isReady(corev1.ConditionTrue)).
		Assess("its probe is made to fail", becomes(false)).
		Assess("a pod whose probe fails is not ready", isReady(corev1.ConditionFalse)).
		Assess("its probe is made to succeed", becomes(true)).
		Assess("a pod whose probe succeeds again is ready again", isReady(corev1.ConditionTrue)).
		Feature()
	suite.env.Test(t, feature)
}

// forward opens a port of this machine's loopback to a pod's port until the test
// ends, and returns its address.
func forward(t *testing.T, config *envconf.Config, pod string, port int) string {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(config.Client().RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	url := clientset(t, config).CoreV1().RESTClient().Post().Resource("pods").Namespace(config.Namespace()).Name(pod).SubResource("portforward").URL()
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url),
		[]string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
		t.Cleanup(func() {
			close(stop)
			<-done
		})
	case err := <-done:
		t.Fatalf("forward port %d of pod %s: %v", port, pod, err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
}

// tell says in a line what is known of a pod.
func tell(ctx context.Context, config *envconf.Config, name string) string {
	var p corev1.Pod
	if err := config.Client().Resources().Get(ctx, name, config.Namespace(), &p); err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("pod %s is %s", name, p.Status.Phase)
	for _, status := range p.Status.ContainerStatuses {
		if waits := status.State.Waiting; waits != nil {
			text += fmt.Sprintf(", container %s waits: %s %s", status.Name, waits.Reason, waits.Message)
		}
		if ended := status.State.Terminated; ended != nil {
			text += fmt.Sprintf(", container %s ended with %d: %s %s", status.Name, ended.ExitCode, ended.Reason, ended.Message)
		}
	}
	return text
}
