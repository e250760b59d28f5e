package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/echo"
)

// pollInterval is how often these tests look at a pod.
const pollInterval = 50 * time.Millisecond

// widgets is a definition that nobody else has.
const widgets = `
apiVersion: v1
kind: Namespace
metadata: {name: early}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.meshproof.dev}
spec:
  group: test.meshproof.dev
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, required: [size], properties: {size: {type: integer}}}}}}
`

func restConfig(t *testing.T, c cluster.Cluster) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// ping fails the test unless the cluster's API answers.
func ping(t *testing.T, c cluster.Cluster) {
	t.Helper()
	client, err := kubernetes.NewForConfig(restConfig(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().Get(context.Background(), "meshproof", metav1.GetOptions{}); err != nil {
		t.Errorf("cluster %s: %v", c.Name(), err)
	}
}

func TestClusterRunsPods(t *testing.T) {
	asEveryUser(t, func(t *testing.T) {
		c := create(t, newProvider(t), cluster.Options{Manifests: [][]byte{[]byte(widgets)}})
		t.Log("timings:", c.Timings())
		k := &kube{t: t, config: restConfig(t, c)}
		var err error
		if k.client, err = kubernetes.NewForConfig(k.config); err != nil {
			t.Fatal(err)
		}
		t.Run("objects of kinds that were asked for are accepted", k.acceptsWidgets)
		server := k.run("echo", "meshproof/agent", nil, "echo")
		k.run("outside", "meshproof/agent", map[string]string{cluster.OutsideAnnotation: "outside"}, "echo")
		k.serve("echo", echo.PortGRPC)
		inside, outside := k.running("echo"), k.running("outside")
		t.Run("pods have addresses of their ranges", func(t *testing.T) {
			if a, err := netip.ParseAddr(outside); err != nil || !c.Capabilities().Outside.Networks[0].Contains(a) {
				t.Errorf("the pod outside has %q", outside)
			}
			if a, err := netip.ParseAddr(inside); err != nil || c.Capabilities().Outside.Networks[0].Contains(a) {
				t.Errorf("the pod inside has %q", inside)
			}
		})
		t.Run("a pod reaches a service by name", func(t *testing.T) {
			k.run("caller", "networld/grpcurl", nil, "-plaintext", "-connect-timeout", "10", fmt.Sprintf("echo:%d", echo.PortGRPC), "list")
			if got := k.finished("caller"); got != corev1.PodSucceeded {
				t.Errorf("the caller is %s", got)
			}
			if logs := k.logs("caller"); !strings.Contains(logs, "meshproof.echo") {
				t.Errorf("its log: %s", logs)
			}
		})
		t.Run("commands run in pods and say how they ended", k.exec)
		t.Run("ports of pods are reached from outside", func(t *testing.T) { k.forward(t, server.Name) })
		t.Run("processes and their memory can be looked at from outside", func(t *testing.T) { inspect(t, c) })
		t.Run("logs are collected", func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "logs")
			if err := c.Logs(context.Background(), dir); err != nil {
				t.Fatal(err)
			}
			for _, pattern := range []string{"control-plane.log", "kubelet.log", "node.log", "sandbox.log", "pods/default_echo_*/echo/0.log"} {
				if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) == 0 {
					t.Errorf("there is no %s", pattern)
				}
			}
		})
		t.Run("a deleted pod is gone", func(t *testing.T) {
			if err := k.client.CoreV1().Pods("default").Delete(context.Background(), "echo", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			k.until("pod echo is gone", func() (bool, error) {
				list, err := k.client.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{FieldSelector: "metadata.name=echo"})
				return err == nil && len(list.Items) == 0, err
			})
		})
	})
}

// kube is a client for one test.
type kube struct {
	t      *testing.T
	config *rest.Config
	client kubernetes.Interface
}

func (k *kube) acceptsWidgets(t *testing.T) {
	client, err := dynamic.NewForConfig(k.config)
	if err != nil {
		t.Fatal(err)
	}
	widget := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.meshproof.dev/v1", "kind": "Widget",
		"metadata": map[string]any{"name": "a"}, "spec": map[string]any{"size": int64(1)}}}
	resource := client.Resource(schema.GroupVersionResource{Group: "test.meshproof.dev", Version: "v1", Resource: "widgets"}).Namespace("early")
	if _, err := resource.Create(context.Background(), widget, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

func (k *kube) run(name, image string, annotations map[string]string, args ...string) *corev1.Pod {
	k.t.Helper()
	pod, err := k.client.CoreV1().Pods("default").Create(context.Background(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}, Annotations: annotations},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: name, Image: image, Args: args}}},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return pod
}

func (k *kube) serve(app string, port int) {
	k.t.Helper()
	if _, err := k.client.CoreV1().Services("default").Create(context.Background(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: int32(port), TargetPort: intstr.FromInt(port)}}},
	}, metav1.CreateOptions{}); err != nil {
		k.t.Fatal(err)
	}
	k.until("service "+app+" has endpoints", func() (bool, error) {
		list, err := k.client.DiscoveryV1().EndpointSlices("default").List(context.Background(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + app})
		return err == nil && len(list.Items) == 1 && len(list.Items[0].Endpoints) == 1 && *list.Items[0].Endpoints[0].Conditions.Ready, err
	})
}

func (k *kube) until(what string, reached func() (bool, error)) {
	k.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, err := reached()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("waited in vain until %s: %v", what, err)
		}
		time.Sleep(pollInterval)
	}
}

func (k *kube) running(name string) (address string) {
	k.t.Helper()
	k.until("pod "+name+" is ready", func() (bool, error) {
		pod, err := k.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		address = pod.Status.PodIP
		return pod.Status.Phase == corev1.PodRunning && address != "", fmt.Errorf("%+v", pod.Status)
	})
	return address
}

func (k *kube) finished(name string) (phase corev1.PodPhase) {
	k.t.Helper()
	k.until("pod "+name+" has ended", func() (bool, error) {
		pod, err := k.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		phase = pod.Status.Phase
		return phase == corev1.PodSucceeded || phase == corev1.PodFailed, fmt.Errorf("%+v", pod.Status)
	})
	return phase
}

func (k *kube) logs(name string) string {
	k.t.Helper()
	data, err := k.client.CoreV1().Pods("default").GetLogs(name, &corev1.PodLogOptions{}).DoRaw(context.Background())
	if err != nil {
		k.t.Fatal(err)
	}
	return string(data)
}

// exec runs the agent without a role, which prints its usage and ends with 4.
func (k *kube) exec(t *testing.T) {
	request := k.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("echo").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"/usr/local/bin/meshproof-agent"}, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(k.config, http.MethodPost, request.URL())
	if err != nil {
		t.Fatal(err)
	}
	var discarded, output bytes.Buffer
	err = executor.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdout: &discarded, Stderr: &output})
	if err == nil || !strings.Contains(err.Error(), "exit code 4") {
		t.Errorf("error %v, want one that tells of exit code 4", err)
	}
	if !strings.Contains(output.String(), "usage: meshproof-agent") {
		t.Errorf("output %q", output.String())
	}
}

func (k *kube) forward(t *testing.T, pod string) {
	transport, upgrader, err := spdy.RoundTripperFor(k.config)
	if err != nil {
		t.Fatal(err)
	}
	url := k.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name(pod).SubResource("portforward").URL()
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url),
		[]string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", echo.PortHTTP)}, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	defer func() { close(stop); <-done }()
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("status %s, body %q, error %v", response.Status, body, err)
	}
}
