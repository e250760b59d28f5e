package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/images"
)

// outputLimit bounds what is kept of a command's output.
const outputLimit = 64 << 10

// judgeCommand runs a command in a pod of its own or in a workload's container.
func (s *scenarioRun) judgeCommand(ctx context.Context, c *scenarios.CommandClaim) verdict {
	var command []string
	for _, word := range c.Run {
		command = append(command, s.text(word))
	}
	ctx, cancel := context.WithTimeout(ctx, commandBudget)
	defer cancel()
	var code int
	var output string
	var err error
	if c.Image != "" {
		code, output, err = s.runPod(ctx, c, command)
	} else {
		code, output, err = s.execIn(ctx, c.Workload, command)
	}
	if err != nil {
		return unsure("the command was not run: %v", err)
	}
	v := passed(fmt.Sprintf("exit %d", code))
	v.expected = "exit " + string(c.Exit)
	v.details = strings.Split(strings.TrimRight(output, "\n"), "\n")
	if (code == 0) != (c.Exit == scenarios.ExitZero) {
		return failing(v, "expected exit %s, observed %s", c.Exit, v.observed)
	}
	for _, want := range c.Output {
		if !strings.Contains(output, s.text(want)) {
			return failing(v, "expected the output to hold %q", s.text(want))
		}
	}
	if len(c.Ends) > 0 && !slices.ContainsFunc(c.Ends, func(end string) bool { return strings.HasSuffix(strings.TrimSpace(output), s.text(end)) }) {
		return failing(v, "expected the output to end with one of %q", c.Ends)
	}
	if len(c.Outcome) > 0 {
		return s.compareOutcome(v, c, output)
	}
	return v
}

// compareOutcome reads the Outcome that a client of this project prints.
func (s *scenarioRun) compareOutcome(v verdict, c *scenarios.CommandClaim, output string) verdict {
	var outcome clients.Outcome
	if err := json.Unmarshal([]byte(strings.TrimSpace(output)), &outcome); err != nil {
		return failing(v, "expected an outcome as JSON: %v", err)
	}
	v.call, v.observed = &outcome, saw(outcome)+", "+v.observed
	v.expected = c.Outcome.String()
	if !slices.Contains(c.Outcome.Kinds(scenarios.Protocol(outcome.Protocol)), outcome.Kind) {
		return failing(v, "expected %s, observed %s", c.Outcome, v.observed)
	}
	if outcome.Kind == clients.PermissionDenied && outcome.Message != "" {
		v.details = append(v.details, "message: "+outcome.Message)
	}
	return v
}

// runPod makes a pod for the command, as kubectl run does, and removes it.
func (s *scenarioRun) runPod(ctx context.Context, c *scenarios.CommandClaim, command []string) (int, string, error) {
	namespace := "default"
	if c.Namespace != "" {
		namespace = s.text(c.Namespace)
	}
	// Whatever the image asks for, the pod is one that namespaces for the
	// unprivileged admit.
	grace, links, yes, no, user := graceSeconds, false, true, false, int64(images.User)
	labels := s.e.labels()
	labels["run"] = "command"
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "mp-" + s.e.short() + "-" + uuid.NewString()[:8], Namespace: namespace, Labels: labels, Annotations: map[string]string{injectKey: string(injected(false))}},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace, EnableServiceLinks: &links,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "command", Image: c.Image, ImagePullPolicy: corev1.PullIfNotPresent, Command: command,
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}}}}
	pods := s.e.kube.typed.CoreV1().Pods(namespace)
	if err := s.e.makeAccount(ctx, namespace, ""); err != nil {
		return 0, "", err
	}
	s.e.kube.relocatePod(pod)
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return 0, "", fmt.Errorf("make Pod %s/%s: %w", namespace, pod.Name, err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
		defer cancel()
		zero := int64(0)
		_ = pods.Delete(clean, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	}()
	name := types.NamespacedName{Namespace: namespace, Name: pod.Name}
	code := 0
	err := s.e.pods.started(ctx, commandBudget, func() (bool, string) {
		now, ok := s.e.pods.get(name)
		if !ok {
			return false, fmt.Sprintf("pod %s is not there", name)
		}
		for _, status := range now.Status.ContainerStatuses {
			if ended := status.State.Terminated; ended != nil {
				code = int(ended.ExitCode)
				return true, ""
			}
		}
		return false, why(now)
	}, func() []*corev1.Pod { return s.e.pods.named(name) })
	if err != nil {
		return 0, "", err
	}
	limit := int64(outputLimit)
	stream, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("read the log of %s: %w", name, err)
	}
	defer stream.Close()
	output, err := io.ReadAll(stream)
	return code, string(output), err
}

// execIn runs a command in the application's container of a workload's pod.
func (s *scenarioRun) execIn(ctx context.Context, workload string, command []string) (int, string, error) {
	pods := s.componentPods(workload)
	if len(pods) == 0 {
		return 0, "", fmt.Errorf("%s has no pods", workload)
	}
	container := ""
	for _, one := range pods[0].Spec.Containers {
		if one.Name != proxyContainer {
			container = one.Name
		}
	}
	request := s.e.kube.typed.CoreV1().RESTClient().Post().Resource("pods").Namespace(pods[0].Namespace).Name(pods[0].Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(s.e.kube.config, "POST", request.URL())
	if err != nil {
		return 0, "", fmt.Errorf("prepare to run a command in %s: %w", nameOf(pods[0]), err)
	}
	var output sharedBuffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &output, Stderr: &output})
	var exit exec.CodeExitError
	switch {
	case errors.As(err, &exit):
		return exit.Code, output.String(), nil
	case err != nil:
		return 0, "", fmt.Errorf("run a command in %s: %w", nameOf(pods[0]), err)
	}
	return 0, output.String(), nil
}

// sharedBuffer takes standard output and standard error, which are copied by a
// goroutine each.
type sharedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := outputLimit - b.buffer.Len(); room < len(p) {
		b.buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.buffer.Write(p)
}

func (b *sharedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
