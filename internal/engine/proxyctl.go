package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Ports that are asked over loopback: those at which the mesh tells what it has
// observed and enforces, and those of the applications.
const (
	policyPort    = 9990
	proxyPort     = 4192
	adminPort     = 4191
	echoPort      = 4194
	webPort       = 8080
	promPort      = 8801
	answerLimit   = 32 << 20
	policyService = "linkerd-destination"
)

// errUnknownPod: the controller does not know the pod, because it has no proxy.
var errUnknownPod = errors.New("the controller knows no such meshed pod")

// errBudget: the mesh did not come so far in time.
var errBudget = errors.New("not in time")

// get asks a pod's loopback port and decodes the JSON answer into out.
func (e *run) get(ctx context.Context, pod types.NamespacedName, port int, path string, query url.Values, out any) error {
	target := url.URL{Scheme: "http", Host: pod.Name, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	response, err := e.forward.transport(pod, port).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask %s port %d for %s: %w", pod, port, path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return fmt.Errorf("ask %s port %d for %s: %w", pod, port, path, err)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", pod, errUnknownPod)
	case http.StatusGatewayTimeout:
		return fmt.Errorf("%s %s: %w: %s", pod, path, errBudget, body)
	default:
		return fmt.Errorf("%s answered %s to %s: %s", pod, response.Status, path, body)
	}
	if text, ok := out.(*[]byte); ok {
		*text = body
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read what %s answered to %s: %w", pod, path, err)
	}
	return nil
}

// observed is the controller's answer about a port.
type observed struct {
	Observed map[string]string `json:"observed"`
	Hash     string            `json:"hash"`
	Server   struct {
		Labels map[string]string `json:"labels"`
	} `json:"server"`
	raw json.RawMessage
}

// server is the policy's name as kind/name.
func (o observed) server() string { return o.Server.Labels["kind"] + "/" + o.Server.Labels["name"] }

// versions are the lower bounds that a question to the controller may carry, by
// the name of what is watched.
type versions map[string]uint64

// with raises the bounds to what was written.
func (v versions) with(w write) versions {
	if name := watchedAs[w.groupKind()]; name != "" {
		v[name] = max(v[name], w.version)
	}
	return v
}

func (v versions) query(query url.Values) url.Values {
	for _, name := range sorted(v) {
		if v[name] > 0 {
			query.Add("min", name+":"+strconv.FormatUint(v[name], 10))
		}
	}
	query.Set("timeout", inForceBudget.String())
	return query
}

// controllers are the pods that serve policy.
func (e *run) controllers() []*corev1.Pod {
	var all []*corev1.Pod
	for _, pod := range e.pods.list(meshNamespace, nil) {
		for _, container := range pod.Spec.Containers {
			if container.Name == "policy" && ready(pod) {
				all = append(all, pod)
			}
		}
	}
	return all
}

// askController returns what every controller serves for a port once it has
// observed the versions; they must agree.
func (e *run) askController(ctx context.Context, pod types.NamespacedName, port int, least versions) (observed, error) {
	controllers := e.controllers()
	if len(controllers) == 0 {
		return observed{}, fmt.Errorf("no pod of %s serves policy: %w", policyService, errNoPod)
	}
	var answer observed
	for i, controller := range controllers {
		query := least.query(url.Values{"ns": {pod.Namespace}, "pod": {pod.Name}, "port": {strconv.Itoa(port)}})
		var body []byte
		if err := e.get(ctx, nameOf(controller), policyPort, "/observed", query, &body); err != nil {
			return observed{}, err
		}
		var one observed
		if err := json.Unmarshal(body, &one); err != nil {
			return observed{}, fmt.Errorf("read what the controller %s serves: %w", controller.Name, err)
		}
		one.raw = body
		if i > 0 && one.Hash != answer.Hash {
			return observed{}, fmt.Errorf("controllers %s and %s serve different policies for %s port %d", controllers[0].Name, controller.Name, pod, port)
		}
		answer = one
	}
	return answer, nil
}

// portPolicy is what a proxy enforces on a port.
type portPolicy struct {
	Hash     string `json:"hash"`
	Source   string `json:"source"`
	Protocol string `json:"protocol"`
	Server   string `json:"server"`
	Version  int64  `json:"version"`
	// Watched says that the controller tells the proxy of changes; nil where the
	// proxy does not say.
	Watched *bool `json:"watched"`
}

// awaitProxy waits until the proxy enforces the policy with that hash, and returns
// what it enforces.
func (e *run) awaitProxy(ctx context.Context, pod types.NamespacedName, port int, hash string) (portPolicy, error) {
	query := url.Values{"port": {strconv.Itoa(port)}, "hash": {hash}, "timeout": {inForceBudget.String()}}
	var answer struct {
		Ports map[string]portPolicy `json:"ports"`
	}
	err := e.get(ctx, pod, proxyPort, "/policy", query, &answer)
	return answer.Ports[strconv.Itoa(port)], err
}

// policies are what a proxy enforces, by port.
func (e *run) policies(ctx context.Context, pod types.NamespacedName) (map[string]portPolicy, error) {
	var answer struct {
		Ports map[string]portPolicy `json:"ports"`
	}
	err := e.get(ctx, pod, proxyPort, "/policy", nil, &answer)
	return answer.Ports, err
}

// decision is one record of what a proxy decided.
type decision struct {
	Seq            int64     `json:"seq"`
	Time           time.Time `json:"time"`
	Client         string    `json:"client"`
	ClientIdentity string    `json:"clientIdentity"`
	TLS            any       `json:"tls"`
	TargetPort     int       `json:"targetPort"`
	Protocol       string    `json:"protocol"`
	Method         string    `json:"method"`
	Path           string    `json:"path"`
	RequestID      string    `json:"requestID"`
	Verdict        string    `json:"verdict"`
	Server         string    `json:"server"`
	Route          string    `json:"route"`
	Authorization  string    `json:"authorization"`
	Hash           string    `json:"hash"`
}

// String names all that a decision hangs on: the request, what decided, and the
// client's address and identity.
func (d decision) String() string {
	text := fmt.Sprintf("decision %d of the proxy: %s", d.Seq, d.Verdict)
	if d.Path != "" {
		text += " " + d.Method + " " + d.Path
	}
	text += " by " + d.Server
	if d.Authorization != "" {
		text += " with " + d.Authorization
	}
	text += ", client " + d.Client
	if d.ClientIdentity != "" {
		text += " as " + d.ClientIdentity
	} else {
		text += " without identity"
	}
	return text
}

type decisions struct {
	Last    int64 `json:"last"`
	Dropped int64 `json:"dropped"`
	// Began tells the logs of two processes apart; zero before the first record, and
	// when the proxy does not tell.
	Began time.Time `json:"began"`
	// Now is the proxy's clock, zero when it does not tell.
	Now       time.Time  `json:"now"`
	Decisions []decision `json:"decisions"`
}

// decisionsSince lists a proxy's decisions; port 0 means all ports.
func (e *run) decisionsSince(ctx context.Context, pod types.NamespacedName, since int64, port int) (decisions, error) {
	query := url.Values{"since": {strconv.FormatInt(since, 10)}}
	if port != 0 {
		query.Set("port", strconv.Itoa(port))
	}
	var answer decisions
	err := e.get(ctx, pod, proxyPort, "/decisions", query, &answer)
	return answer, err
}

// lastDecision is the number of the newest decision.
func (e *run) lastDecision(ctx context.Context, pod types.NamespacedName) (int64, error) {
	answer, err := e.decisionsSince(ctx, pod, math.MaxInt64, 0)
	return answer.Last, err
}

// delivery is one thing that reached an echo workload.
type delivery struct {
	Seq   int64     `json:"seq"`
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	ID    string    `json:"id"`
	Port  int       `json:"port"`
}

type deliveries struct {
	Last   int64 `json:"last"`
	Missed int64 `json:"missed"`
	// Began is when the application's log did.
	Began      time.Time  `json:"began"`
	Deliveries []delivery `json:"deliveries"`
}

func (e *run) deliveriesSince(ctx context.Context, pod types.NamespacedName, since int64) (deliveries, error) {
	var answer deliveries
	err := e.get(ctx, pod, echoPort, "/deliveries", url.Values{"since": {strconv.FormatInt(since, 10)}}, &answer)
	return answer, err
}

// metrics reads a proxy's metrics page; over loopback every policy allows it.
func (e *run) metrics(ctx context.Context, pod types.NamespacedName) ([]byte, error) {
	var text []byte
	err := e.get(ctx, pod, adminPort, "/metrics", nil, &text)
	return text, err
}
