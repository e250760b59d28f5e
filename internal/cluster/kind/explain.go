package kind

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	kindexec "sigs.k8s.io/kind/pkg/exec"

	"github.com/meshproof/meshproof/internal/cluster"
)

// missingImage is what node providers say of an image that is not there.
var missingImage = regexp.MustCompile(`(?i)no such image|image not known|no such object|not found`)

// known are the errors of programs that have a known cause and remedy. The first
// row whose pattern matches the output counts; $1 is its first group.
var known = []struct {
	pattern       *regexp.Regexp
	cause, remedy string
}{
	{
		regexp.MustCompile(`(?i)permission denied while trying to connect|dial unix [^ ]+: connect: permission denied`),
		"this user may not use docker: permission denied on its socket",
		"add this user to the group docker and log in again, or run as root",
	},
	{
		regexp.MustCompile(`(?i)(?:cannot connect to the docker daemon at|failed to connect to the docker API at) ([^ ;,]+?)[.;,]?(?: |$)`),
		"no Docker daemon answers at $1",
		"start it (systemctl start docker), or set DOCKER_HOST to one that runs",
	},
	{
		regexp.MustCompile(`(?i)cannot connect to (?:the docker daemon|podman)|is the docker daemon running|error during connect|cannot access containerd socket`),
		"the node provider's daemon does not answer",
		"start it, or set DOCKER_HOST to one that runs",
	},
	{
		regexp.MustCompile(`(?i)unable to parse docker host|invalid bind address|protocol not available`),
		"DOCKER_HOST names no daemon",
		"unset it, or set it to something like unix:///var/run/docker.sock",
	},
	{
		regexp.MustCompile(`(?i)Bind for ([^ ]+) failed: port is already allocated|listen tcp4? ([^ ]+): bind: address already in use|failed to bind host port (?:for )?([0-9.]+:[0-9]+|\[[0-9a-f:]+\]:[0-9]+).*address already in use`),
		"a port that the cluster needs on this machine is taken: $1",
		"end who listens there, or change apiServerPort or extraPortMappings in the file of --kind-config",
	},
	{
		regexp.MustCompile(`(?i)could not find a log line that matches|too many open files|no space left on device.*inotify`),
		"a node's container did not boot",
		"raise the limits of inotify: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288",
	},
	{
		regexp.MustCompile(`(?i)no space left on device`),
		"the disk of the node provider is full",
		"make room, for instance with docker system prune",
	},
	{
		regexp.MustCompile(`(?i)mounts denied|is not shared from|bind source path does not exist|invalid mount config`),
		"a mount of the kind configuration cannot be made",
		"correct extraMounts in the file of --kind-config",
	},
	{
		regexp.MustCompile(`(?i)failCgroupV1|cgroup v1 (?:support )?is (?:deprecated|unsupported|not supported)|configured to not run on a host using cgroup v1`),
		"the kubelet refuses to run on this machine's cgroup v1",
		"set failCgroupV1: false for the KubeletConfiguration in a file of --kind-config, under kubeadmConfigPatches",
	},
}

// kubeletSilent is what kubeadm says when the kubelet, or what it was to start,
// does not answer: why is in the kubelet's own log.
var kubeletSilent = regexp.MustCompile(`(?i)The connection to the server .* was refused|wait-control-plane|kubelet is not (?:running|healthy)|could not initialize a Kubernetes cluster`)

// runError is what an error of kind's library says about a program that failed;
// nil when it is about none.
func runError(err error) *kindexec.RunError {
	var run *kindexec.RunError
	if errors.As(err, &run) {
		return run
	}
	return kindexec.RunErrorForError(err)
}

// explainKubelet adds the kubelet's own reason to kubeadm's. log is of the
// kubelet; empty when it could not be had.
func explainKubelet(err error, log string) error {
	if run := runError(err); run == nil || !kubeletSilent.Match(run.Output) {
		return nil
	}
	if setup := explainText(log); setup != nil {
		return setup
	}
	setup := &cluster.SetupError{Cause: "the control plane did not come up", Remedy: "look into the nodes' logs, or keep the nodes with --retain"}
	for line := range strings.Lines(log) {
		if match := kubeletFatal.FindStringSubmatch(line); match != nil {
			setup.Err = fmt.Errorf("kubelet: %s", strings.TrimSpace(match[1]))
		}
	}
	return setup
}

// kubeletFatal is the line with which a kubelet gives up.
var kubeletFatal = regexp.MustCompile(`\bE\d{4} .*"command failed"\s+(err=.*)`)

// explainCommand turns what a program says into a cause and a remedy, where it
// is known.
func explainCommand(failed *commandError) error {
	if setup := explainText(failed.output); setup != nil {
		return setup
	}
	return failed
}

func explainText(text string) *cluster.SetupError {
	for _, row := range known {
		match := row.pattern.FindStringSubmatch(text)
		if match == nil {
			continue
		}
		detail := ""
		for _, group := range match[1:] {
			if group != "" {
				detail = group
			}
		}
		return &cluster.SetupError{Cause: strings.TrimSuffix(strings.ReplaceAll(row.cause, "$1", detail), ": "), Remedy: row.remedy}
	}
	return nil
}

// explainKind does the same for an error of kind's library. What it says about a
// program that failed is in the error's chain.
func explainKind(step string, err error) error {
	run := runError(err)
	if run == nil {
		if setup := explainText(err.Error()); setup != nil {
			return setup
		}
		return &cluster.SetupError{Cause: "kind: " + step, Err: err}
	}
	output := string(run.Output)
	if setup := explainText(output); setup != nil {
		return setup
	}
	line := telling(output)
	if line == "" {
		line = run.Inner.Error()
	}
	return &cluster.SetupError{Cause: fmt.Sprintf("kind: %s: %s", step, strings.Join(run.Command[:min(2, len(run.Command))], " ")), Err: errors.New(line)}
}

// telling is the line of a program's output that says what is wrong: the last
// one that speaks of an error, else the last one.
func telling(output string) string {
	last, found := "", ""
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		last = line
		if strings.Contains(strings.ToLower(line), "error") {
			found = line
		}
	}
	if found != "" {
		return found
	}
	return last
}
