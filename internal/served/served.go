// Package served tells what the mesh's controllers serve for one port of a pod,
// and whether the pod's proxy enforces it: `meshproof diagnostics policy`.
//
// Every controller is asked for its own answer, as a proxy would ask it (GetPort),
// and the proxy for what it has in force; the answers become one value, which is
// printed as JSON or as text. It reads only.
package served

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/podport"
)

const (
	controlPlane = "linkerd"
	// controllers are the pods that serve policy, observePort where they tell.
	controllers = "linkerd.io/control-plane-component=destination"
	observePort = 9990
	// proxyPort is where proxies tell what they enforce.
	proxyPort      = 4192
	proxyContainer = "linkerd-proxy"
	// enforceBudget is what a proxy may take to be told of the last change.
	enforceBudget = 3 * time.Second
)

// Errors that callers decide on.
var (
	// ErrUnknown: no controller knows the pod, because it has no proxy or is not
	// there.
	ErrUnknown = errors.New("the controller knows no such meshed pod")
	// ErrNoController: nobody serves policy.
	ErrNoController = errors.New("no controller serves policy in namespace " + controlPlane)
)

// Answer is what is served and what is enforced.
type Answer struct {
	Pod  string `json:"pod"`
	Port uint16 `json:"port"`
	// Hash names the policy that is served; equal hashes are equal policies.
	Hash string `json:"hash"`
	// Controllers are those that were asked. They should agree.
	Controllers []Controller `json:"controllers"`
	// Enforced says that the pod's proxy has exactly this policy in force.
	Enforced bool `json:"enforced"`
	// Proxy is what the pod's proxy has in force.
	Proxy Proxy `json:"proxy"`
	// Server is the message itself, io.linkerd.proxy.inbound.Server.
	Server json.RawMessage `json:"server"`
}

// Controller is one replica's word.
type Controller struct {
	Pod  string `json:"pod"`
	Hash string `json:"hash"`
	// Observed is the resourceVersion that it has seen of each kind.
	Observed map[string]string `json:"observed"`
}

// Proxy is what a proxy has in force on a port.
type Proxy struct {
	Hash     string `json:"hash"`
	Source   string `json:"source,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	Server   string `json:"server,omitempty"`
	// Error says why the proxy could not be asked.
	Error string `json:"error,omitempty"`
}

// Agree says that all controllers serve the same.
func (a Answer) Agree() bool {
	for _, c := range a.Controllers {
		if c.Hash != a.Hash {
			return false
		}
	}
	return true
}

// Ask asks every controller and the pod's proxy.
func Ask(ctx context.Context, cluster podport.Cluster, pod types.NamespacedName, port uint16) (Answer, error) {
	answer := Answer{Pod: pod.String(), Port: port}
	list, err := cluster.Client.CoreV1().Pods(controlPlane).List(ctx, metav1.ListOptions{LabelSelector: controllers})
	if err != nil {
		return answer, fmt.Errorf("find the controllers: %w", err)
	}
	for _, controller := range list.Items {
		if !serves(controller) {
			continue
		}
		one, server, err := askController(ctx, cluster, types.NamespacedName{Namespace: controller.Namespace, Name: controller.Name}, pod, port)
		if err != nil {
			return answer, err
		}
		answer.Controllers = append(answer.Controllers, one)
		answer.Hash, answer.Server = one.Hash, server
	}
	if len(answer.Controllers) == 0 {
		return answer, ErrNoController
	}
	answer.Proxy = askProxy(ctx, cluster, pod, port, answer.Hash)
	answer.Enforced = answer.Proxy.Hash == answer.Hash
	return answer, nil
}

// serves says whether the pod is ready and on its way nowhere.
func serves(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}

func askController(ctx context.Context, cluster podport.Cluster, controller, pod types.NamespacedName, port uint16) (Controller, json.RawMessage, error) {
	query := url.Values{"ns": {pod.Namespace}, "pod": {pod.Name}, "port": {strconv.Itoa(int(port))}}
	status, body, err := cluster.Get(ctx, controller, observePort, "/observed", query)
	if err != nil {
		return Controller{}, nil, fmt.Errorf("ask controller %s: %w", controller.Name, err)
	}
	var said struct {
		Observed map[string]string `json:"observed"`
		Hash     string            `json:"hash"`
		Server   json.RawMessage   `json:"server"`
		Error    string            `json:"error"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return Controller{}, nil, fmt.Errorf("read what controller %s answers: %w", controller.Name, err)
	}
	switch status {
	case http.StatusOK:
		return Controller{Pod: controller.Name, Hash: said.Hash, Observed: said.Observed}, said.Server, nil
	case http.StatusNotFound:
		return Controller{}, nil, fmt.Errorf("%s: %w", pod, ErrUnknown)
	default:
		return Controller{}, nil, fmt.Errorf("controller %s answers %d: %s", controller.Name, status, said.Error)
	}
}

// askProxy waits a moment for the proxy to enforce what is served: it may have
// been told just now.
func askProxy(ctx context.Context, cluster podport.Cluster, pod types.NamespacedName, port uint16, hash string) Proxy {
	number := strconv.Itoa(int(port))
	status, body, err := cluster.Get(ctx, pod, proxyPort, "/policy", url.Values{"port": {number}, "hash": {hash}, "timeout": {enforceBudget.String()}})
	if err != nil {
		return Proxy{Error: err.Error()}
	}
	var said struct {
		Ports map[string]Proxy `json:"ports"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return Proxy{Error: fmt.Sprintf("the proxy answers %d: %s", status, strings.TrimSpace(string(body)))}
	}
	return said.Ports[number]
}

// FindPort is the number of a port that is given as number or as the name of a
// container port of the pod.
func FindPort(ctx context.Context, cluster podport.Cluster, pod types.NamespacedName, port string) (uint16, error) {
	if number, err := strconv.ParseUint(port, 10, 16); err == nil && number > 0 {
		return uint16(number), nil
	}
	found, err := cluster.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("look for port %s: %w", port, err)
	}
	var names []string
	for _, container := range append(found.Spec.InitContainers, found.Spec.Containers...) {
		for _, declared := range container.Ports {
			if declared.Name == port && (declared.Protocol == "" || declared.Protocol == corev1.ProtocolTCP) {
				return uint16(declared.ContainerPort), nil
			}
			names = append(names, declared.Name)
		}
	}
	return 0, fmt.Errorf("pod %s has no TCP port called %q: it has %s", pod, port, strings.Join(names, ", "))
}
