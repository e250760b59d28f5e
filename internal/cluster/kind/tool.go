package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	kindcluster "sigs.k8s.io/kind/pkg/cluster"

	"github.com/meshproof/meshproof/internal/cluster"
)

const (
	// toolTimeout bounds a question to the node provider: a daemon that hangs
	// must not hang us.
	toolTimeout = 30 * time.Second
	// outputDelay is for a killed program's output to end.
	outputDelay = time.Second
)

// clusterLabel is what kind puts on every node's container, with the cluster's
// name.
const clusterLabel = "io.x-k8s.kind.cluster"

// toolVariable names the node provider, for kind's own command, too.
const toolVariable = "KIND_EXPERIMENTAL_PROVIDER"

// tool is the program by which kind makes nodes.
type tool struct {
	name   string
	option kindcluster.ProviderOption
}

// tools are those that kind knows, in the order in which it looks for them, and
// what their version begins with.
var tools = []struct{ name, version string }{
	{"docker", "Docker version"}, {"nerdctl", "nerdctl version"}, {"finch", "finch version"}, {"podman", "podman version"},
}

func newTool(name string) *tool {
	switch name {
	case "docker":
		return &tool{name, kindcluster.ProviderWithDocker()}
	case "podman":
		return &tool{name, kindcluster.ProviderWithPodman()}
	}
	return &tool{name, kindcluster.ProviderWithNerdctl(name)}
}

// findTool finds the program as kind does (cluster.DetectNodeProvider), which
// does not tell the name of what it has found.
func findTool(ctx context.Context) (*tool, error) {
	wanted := os.Getenv(toolVariable)
	var broken error
	for _, one := range tools {
		if wanted != "" && wanted != one.name {
			continue
		}
		t := newTool(one.name)
		out, err := t.run(ctx, "-v")
		switch {
		case errors.Is(err, exec.ErrNotFound):
		case err != nil:
			broken = errors.Join(broken, err)
		case bytes.HasPrefix(out, []byte(one.version)):
			return t, nil
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("look for docker: %w", context.Cause(ctx))
	}
	remedy := "install one of them, or use --cluster embedded, which needs none"
	if wanted != "" {
		remedy = "unset " + toolVariable + ", or install what it names"
		if !slices.ContainsFunc(tools, func(one struct{ name, version string }) bool { return one.name == wanted }) {
			return nil, &cluster.SetupError{Cause: fmt.Sprintf("%s=%s: kind knows no such node provider", toolVariable, wanted), Remedy: "unset it, or name docker, podman or nerdctl"}
		}
		return nil, &cluster.SetupError{Cause: "no " + wanted + " on PATH, which " + toolVariable + " names", Remedy: remedy, Err: broken}
	}
	return nil, &cluster.SetupError{Cause: "no docker, podman or nerdctl on PATH", Remedy: remedy, Err: broken}
}

// kind is the library's handle.
func (t *tool) kind(options ...kindcluster.ProviderOption) *kindcluster.Provider {
	return kindcluster.NewProvider(append(options, t.option)...)
}

// commandError is a program that ended with an error.
type commandError struct {
	command []string
	output  string // what it wrote to standard error
	err     error
}

func (e *commandError) Error() string {
	line := firstLine(e.output)
	if line == "" {
		line = e.err.Error()
	}
	return strings.Join(e.command[:min(2, len(e.command))], " ") + ": " + line
}

func (e *commandError) Unwrap() error { return e.err }

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

// run runs the program and returns its standard output. Errors are what the
// program says, with the cause and the remedy where they are known.
func (t *tool) run(ctx context.Context, arguments ...string) ([]byte, error) {
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.name, arguments...)
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &failure, outputDelay
	err := cmd.Run()
	switch {
	case err == nil:
		return out.Bytes(), nil
	case asked.Err() != nil:
		return nil, fmt.Errorf("run %s: %w", t.name, context.Cause(asked))
	case ctx.Err() != nil:
		return nil, &cluster.SetupError{Cause: fmt.Sprintf("%s has not answered for %s", t.name, toolTimeout), Remedy: "restart its daemon"}
	}
	return nil, explainCommand(&commandError{cmd.Args, failure.String(), err})
}

// container is one of a cluster's nodes, as the node provider sees it.
type container struct {
	ID      string
	Name    string
	Cluster string
	Running bool
	// Created is zero when the node provider tells it in a way that is not known.
	Created time.Time
}

// createdLayouts are how node providers print times.
var createdLayouts = []string{"2006-01-02 15:04:05 -0700 MST", "2006-01-02 15:04:05.999999999 -0700 MST"}

// containers lists the nodes of a cluster, or of all clusters when name is
// empty, whoever made them.
func (t *tool) containers(ctx context.Context, name string) ([]container, error) {
	label := clusterLabel
	if name != "" {
		label += "=" + name
	}
	const fields = "{{.ID}}\t{{.Names}}\t{{.Status}}\t{{.CreatedAt}}\t"
	format := fields + `{{.Label "` + clusterLabel + `"}}`
	if name != "" {
		format = fields // old versions of podman tell labels in another way
	}
	out, err := t.run(ctx, "ps", "-a", "--no-trunc", "--filter", "label="+label, "--format", format)
	if err != nil {
		return nil, err
	}
	var found []container
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(fields) < 5 {
			continue
		}
		one := container{ID: fields[0], Name: fields[1], Running: strings.HasPrefix(fields[2], "Up"), Cluster: fields[4]}
		if name != "" {
			one.Cluster = name
		}
		for _, layout := range createdLayouts {
			if created, err := time.Parse(layout, fields[3]); err == nil {
				one.Created = created
			}
		}
		found = append(found, one)
	}
	return found, nil
}

// hasImage reports whether an image is there without pulling it.
func (t *tool) hasImage(ctx context.Context, image string) (bool, error) {
	_, err := t.run(ctx, "image", "inspect", image)
	var failed *commandError
	if err == nil || !errors.As(err, &failed) || !missingImage.MatchString(failed.output) {
		return err == nil, err
	}
	return false, nil
}

// endpoint tells node providers of the same name apart: two daemons have
// different clusters.
func endpoint() string {
	var parts []string
	for _, variable := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINERD_ADDRESS"} {
		if value := os.Getenv(variable); value != "" {
			parts = append(parts, variable+"="+value)
		}
	}
	return strings.Join(parts, " ")
}
