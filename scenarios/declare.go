package scenarios

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Declaration is a container port that a workload declares besides those that it
// serves.
type Declaration struct {
	Pos `yaml:"-" json:"-"`
	// Name of the port; none when absent.
	Name string `yaml:"name"`
	// Port number.
	Port int `yaml:"port" jsonschema:"required"`
	// Protocol is TCP (default), UDP or SCTP.
	Protocol PortProtocol `yaml:"protocol"`
	// On is the application's container (default), or a sidecar that is one of the pod's initContainers.
	On Container `yaml:"on"`
}

// DeclaredProbe is an HTTP probe of a workload of kind echo.
type DeclaredProbe struct {
	Pos  `yaml:"-" json:"-"`
	Type ProbeType `yaml:"type" jsonschema:"required"`
	// Path as it stands in the manifest, with a query or without a slash if need be.
	Path string `yaml:"path"`
	// Port by name or number.
	Port string `yaml:"port" jsonschema:"required"`
	// On is the container that declares it.
	On Container `yaml:"on"`
	// Performed is false for a liveness probe that the kubelet is told to begin with in an hour: true when absent.
	Performed *bool `yaml:"performed"`
}

// Declares says whether the workload declares more than its kind does.
func (w *Workload) Declares() bool { return len(w.Ports)+len(w.Probes) > 0 }

const (
	// sidecar is the container that declares what is not the application's.
	sidecar = "sidecar"
	// notYet is later than any run ends.
	notYet = 3600
	// probeTimeout is long: what a policy denies is answered at once, and a busy
	// node must not look like a denial.
	probeTimeout = 5
)

// Declare adds the workload's further ports and probes to its pods.
func (w *Workload) Declare(spec *corev1.PodSpec) {
	app := &spec.Containers[0]
	always := corev1.ContainerRestartPolicyAlways
	aside := corev1.Container{Name: sidecar, Image: app.Image, ImagePullPolicy: app.ImagePullPolicy, SecurityContext: app.SecurityContext,
		Args: []string{"client", "--listen", "127.0.0.1:0"}, Resources: app.Resources, RestartPolicy: &always}
	used := false
	on := func(c Container) *corev1.Container {
		if c == Sidecar {
			used = true
			return &aside
		}
		return app
	}
	for _, d := range w.Ports {
		c := on(d.On)
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: d.Name, ContainerPort: int32(d.Port), Protocol: corev1.Protocol(d.Protocol)})
	}
	for _, p := range w.Probes {
		probe := &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: probeTimeout, SuccessThreshold: 1, FailureThreshold: 1,
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: p.Path, Port: intstr.Parse(p.Port)}}}
		c := on(p.On)
		switch p.Type {
		case ReadinessProbe:
			c.ReadinessProbe = probe
		case StartupProbe:
			probe.FailureThreshold = notYet
			c.StartupProbe = probe
		case LivenessProbe:
			if p.Performed != nil && !*p.Performed {
				probe.InitialDelaySeconds = notYet
			}
			c.LivenessProbe = probe
		}
	}
	if used {
		spec.InitContainers = append(spec.InitContainers, aside)
	}
}

// declarations checks what the workload declares.
func (v *validator) declarations(w *Workload) {
	if w.Declares() && w.Kind != Echo {
		v.add(w.Pos, "only a workload of kind %s declares further ports and probes", Echo)
		return
	}
	for _, d := range w.Ports {
		if d.Port < 1 || d.Port > 65535 {
			v.add(d.Pos, "port %d: want 1 to 65535", d.Port)
		}
	}
	seen := map[string]bool{}
	for _, p := range w.Probes {
		if key := string(p.On + "/" + Container(p.Type)); seen[key] {
			v.add(p.Pos, "a container has one %s probe at most", p.Type)
		} else {
			seen[key] = true
		}
		if number, err := strconv.Atoi(p.Port); err == nil && (number < 1 || number > 65535) {
			v.add(p.Pos, "port %s: want a name or 1 to 65535", p.Port)
		}
		if p.Performed != nil && !*p.Performed && p.Type != LivenessProbe {
			v.add(p.Pos, "only a %s probe can wait: without the others a pod is never ready", LivenessProbe)
		}
	}
}
