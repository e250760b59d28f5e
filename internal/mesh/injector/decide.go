package injector

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/images/reference"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// The annotations that are read, beside those of package api.
const (
	InjectAnnotation        = "linkerd.io/inject"
	SkipInboundAnnotation   = "config.linkerd.io/skip-inbound-ports"
	SkipOutboundAnnotation  = "config.linkerd.io/skip-outbound-ports"
	LogLevelAnnotation      = "config.linkerd.io/proxy-log-level"
	CPURequestAnnotation    = "config.linkerd.io/proxy-cpu-request"
	CPULimitAnnotation      = "config.linkerd.io/proxy-cpu-limit"
	MemoryRequestAnnotation = "config.linkerd.io/proxy-memory-request"
	MemoryLimitAnnotation   = "config.linkerd.io/proxy-memory-limit"
	// ImageAnnotation names the image of everything that is added to the pod, with
	// or without a tag, and ImageVersionAnnotation another tag of it.
	ImageAnnotation        = "config.linkerd.io/proxy-image"
	ImageVersionAnnotation = "config.linkerd.io/proxy-version"
	PullPolicyAnnotation   = "config.linkerd.io/image-pull-policy"
	// NativeSidecarAnnotation is true or false; Linkerd has had it under both names.
	NativeSidecarAnnotation      = "config.beta.linkerd.io/proxy-enable-native-sidecar"
	NativeSidecarAnnotationAlpha = "config.alpha.linkerd.io/proxy-enable-native-sidecar"
)

// The values of InjectAnnotation.
const (
	injectEnabled  = "enabled"
	injectIngress  = "ingress"
	injectDisabled = "disabled"
)

// The reasons of notes, as events show them.
const (
	// ReasonSkipped: the pod asked for a proxy and gets none.
	ReasonSkipped = "InjectionSkipped"
	// ReasonInvalidPolicy: a default policy annotation has no effect.
	ReasonInvalidPolicy = "InvalidDefaultPolicy"
	// ReasonInvalidConfig: another annotation has no effect.
	ReasonInvalidConfig = "InvalidProxyConfig"
)

// Note is something the pod's owner should know, told as a warning event.
type Note struct {
	Reason, Message string
}

// wanted decides whether the pod is to get a proxy, and says why not.
func wanted(pod *corev1.Pod, namespace *corev1.Namespace, s Settings) (mode, why string, notes []Note) {
	if namespace.Name == s.ControlPlaneNamespace || namespace.Name == "kube-system" {
		return "", "namespace is never injected", nil
	}
	mode, from := annotation(pod, namespace, InjectAnnotation)
	switch mode {
	case injectEnabled, injectIngress:
	case "", injectDisabled:
		return "", "injection is not asked for", nil
	default:
		return "", "injection annotation is invalid", []Note{{ReasonSkipped, fmt.Sprintf("no proxy: annotation %s of the %s is %q, want %s, %s or %s",
			InjectAnnotation, from, mode, injectEnabled, injectIngress, injectDisabled)}}
	}
	if hasContainer(pod, api.ProxyContainer) {
		return "", "the pod has a proxy already", nil
	}
	if pod.Spec.HostNetwork {
		return "", "the pod is on the host's network", []Note{{ReasonSkipped, "no proxy: the pod is on the host's network"}}
	}
	return mode, "", nil
}

// annotation is the pod's own value of key or else the namespace's, and whose.
func annotation(pod *corev1.Pod, namespace *corev1.Namespace, key string) (value, from string) {
	if value, ok := pod.Annotations[key]; ok {
		return value, "pod"
	}
	if value, ok := namespace.Annotations[key]; ok {
		return value, "namespace"
	}
	return "", ""
}

// choices is everything that annotations decide about an injected pod.
type choices struct {
	defaultPolicy              api.PolicyName
	opaquePorts, identityPorts string // resolved, as the proxy reads them
	skipInbound, skipOutbound  string
	logLevel                   string
	ingress                    bool
	resources                  corev1.ResourceRequirements
	listeners                  listeners
	inboundPorts               string
	detectTimeout              string
	unusedTimeout              string // "": the proxy's own
	image                      string
	pullPolicy                 corev1.PullPolicy
	nativeSidecar              bool
	podAnnotations             map[string]string // to be added to the pod
	notes                      []Note
}

// choose reads the annotations. Whatever cannot be used falls back to the
// cluster's setting, with a note: a typing error in an annotation must not keep
// a pod from starting, nor from being told.
func choose(pod *corev1.Pod, namespace *corev1.Namespace, s Settings) choices {
	c := choices{defaultPolicy: s.DefaultInboundPolicy, podAnnotations: map[string]string{}}
	note := func(reason, format string, args ...any) {
		c.notes = append(c.notes, Note{reason, fmt.Sprintf(format, args...)})
	}

	if value, from := annotation(pod, namespace, api.DefaultPolicyAnnotation); from != "" {
		if policy := api.PolicyName(value); policy.Valid() {
			c.defaultPolicy = policy
			if !s.fixedAtCreation && from == "namespace" {
				c.podAnnotations[api.DefaultPolicyAnnotation] = value // D-08
			}
		} else {
			note(ReasonInvalidPolicy, "annotation %s of the %s is %q, which is no policy; the cluster's default %s holds",
				api.DefaultPolicyAnnotation, from, value, c.defaultPolicy)
		}
	}

	// The policy role and the destination role read these two from the pod.
	opaque, from := annotation(pod, namespace, api.OpaquePortsAnnotation)
	if from == "" {
		opaque = exposed(pod, s.OpaquePorts) // D-16
	}
	if from != "pod" && opaque != "" {
		c.podAnnotations[api.OpaquePortsAnnotation] = opaque
	}
	identity, from := annotation(pod, namespace, api.RequireIdentityAnnotation)
	if from == "namespace" {
		c.podAnnotations[api.RequireIdentityAnnotation] = identity
	}
	resolve := func(key, list string) string {
		resolved, unknown := resolvePorts(pod, list)
		for _, item := range unknown {
			note(ReasonInvalidConfig, "annotation %s: %q is neither a port, a range of ports nor a TCP port name of the pod; it has no effect", key, item)
		}
		return resolved
	}
	c.opaquePorts = resolve(api.OpaquePortsAnnotation, opaque)
	c.identityPorts = resolve(api.RequireIdentityAnnotation, identity)

	skip := func(key, fallback string) string {
		list, from := annotation(pod, namespace, key)
		if from == "" {
			list = fallback
		}
		return resolve(key, list)
	}
	c.skipInbound = skip(SkipInboundAnnotation, s.SkipInboundPorts)
	c.skipOutbound = skip(SkipOutboundAnnotation, s.SkipOutboundPorts)

	c.logLevel = s.ProxyLogLevel
	if level, from := annotation(pod, namespace, LogLevelAnnotation); from != "" {
		c.logLevel = level
	}
	mode, _ := annotation(pod, namespace, InjectAnnotation)
	c.ingress = mode == injectIngress

	c.listeners = chooseListeners(pod, namespace, note)
	c.inboundPorts = chooseInboundPorts(pod, namespace, resolve)
	c.detectTimeout, c.unusedTimeout = chooseTimeouts(pod, namespace, note)
	c.image, c.pullPolicy = chooseImage(pod, namespace, s, note)
	c.nativeSidecar = chooseSidecar(pod, namespace, s, note)

	if s.ProxyExemption == values.ExemptUID {
		for _, container := range running(pod) {
			if runsAs(pod, container) == ProxyUID {
				note(ReasonInvalidConfig, "container %s runs as user %d, which is the proxy's: what it sends goes past the mesh", container.Name, ProxyUID)
			}
		}
	}

	for _, row := range []struct {
		key  string
		list *corev1.ResourceList
		name corev1.ResourceName
	}{
		{CPURequestAnnotation, &c.resources.Requests, corev1.ResourceCPU},
		{CPULimitAnnotation, &c.resources.Limits, corev1.ResourceCPU},
		{MemoryRequestAnnotation, &c.resources.Requests, corev1.ResourceMemory},
		{MemoryLimitAnnotation, &c.resources.Limits, corev1.ResourceMemory},
	} {
		value, from := annotation(pod, namespace, row.key)
		if from == "" {
			continue
		}
		quantity, err := resource.ParseQuantity(value)
		if err != nil || quantity.Sign() <= 0 {
			note(ReasonInvalidConfig, "annotation %s of the %s: %q is no amount of %s; it has no effect", row.key, from, value, row.name)
			continue
		}
		if *row.list == nil {
			*row.list = corev1.ResourceList{}
		}
		(*row.list)[row.name] = quantity
	}
	return c
}

// noting is how a choice tells that an annotation has no effect.
type noting func(reason, format string, args ...any)

// chooseImage is the image of the proxy and of its init container, and when nodes
// ask a registry for it. An image that an annotation names without a tag has the
// cluster's version.
func chooseImage(pod *corev1.Pod, namespace *corev1.Namespace, s Settings, note noting) (image string, policy corev1.PullPolicy) {
	image = s.ProxyImage
	version, versionFrom := annotation(pod, namespace, ImageVersionAnnotation)
	if asked, from := annotation(pod, namespace, ImageAnnotation); from != "" {
		if _, tag, digest := reference.Split(asked); tag == "" && digest == "" {
			asked += ":" + s.ProxyVersion
		}
		if reference.Valid(asked) {
			image = asked
		} else {
			note(ReasonInvalidConfig, "annotation %s of the %s: %q is no image's name; it has no effect", ImageAnnotation, from, asked)
		}
	}
	if versionFrom != "" {
		repository, _, digest := reference.Split(image)
		switch asked := repository + ":" + version; {
		case digest != "":
			note(ReasonInvalidConfig, "annotation %s of the %s has no effect: the image %s is named by its digest", ImageVersionAnnotation, versionFrom, image)
		case !reference.Valid(asked):
			note(ReasonInvalidConfig, "annotation %s of the %s: %q is no image's tag; it has no effect", ImageVersionAnnotation, versionFrom, version)
		default:
			image = asked
		}
	}
	policy = s.ImagePullPolicy
	if asked, from := annotation(pod, namespace, PullPolicyAnnotation); from != "" {
		if values.ValidPullPolicy(corev1.PullPolicy(asked)) {
			policy = corev1.PullPolicy(asked)
		} else {
			note(ReasonInvalidConfig, "annotation %s of the %s: %q is no pull policy; it has no effect", PullPolicyAnnotation, from, asked)
		}
	}
	return image, policy
}

// chooseSidecar says whether the proxy is an init container that stays. A cluster
// that does not know those would wait for the proxy to end.
func chooseSidecar(pod *corev1.Pod, namespace *corev1.Namespace, s Settings, note noting) bool {
	key, wanted := NativeSidecarAnnotation, s.NativeSidecar
	value, from := annotation(pod, namespace, key)
	if from == "" {
		key = NativeSidecarAnnotationAlpha
		value, from = annotation(pod, namespace, key)
	}
	switch value {
	case "true", "enabled":
		wanted = true
	case "false", "disabled":
		wanted = false
	default:
		if from != "" {
			note(ReasonInvalidConfig, "annotation %s of the %s is %q, want true or false; it has no effect", key, from, value)
		}
	}
	if wanted && s.NoNativeSidecars {
		if from != "" {
			note(ReasonInvalidConfig, "annotation %s of the %s has no effect: this cluster has no native sidecars, Kubernetes 1.29 brought them", key, from)
		}
		return false
	}
	return wanted
}

// inboundPorts lists the ports that the proxy asks about at once (K-05): declared
// TCP ports, and numeric ports of HTTP liveness and readiness probes.
func inboundPorts(pod *corev1.Pod) string {
	ports := map[int32]bool{}
	for _, container := range running(pod) {
		for _, port := range container.Ports {
			if isTCP(port) {
				ports[port.ContainerPort] = true
			}
		}
		for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe} {
			if probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Port.IntVal > 0 {
				ports[probe.HTTPGet.Port.IntVal] = true
			}
		}
	}
	return list(ports)
}

// exposed is that part of a list of ports that the pod declares.
func exposed(pod *corev1.Pod, among string) string {
	declared := map[int32]bool{}
	ranges, _ := parsePorts(among)
	for _, container := range running(pod) {
		for _, port := range container.Ports {
			for _, r := range ranges {
				if isTCP(port) && r.first <= port.ContainerPort && port.ContainerPort <= r.last {
					declared[port.ContainerPort] = true
				}
			}
		}
	}
	return list(declared)
}

// portRange holds first to last, both included.
type portRange struct{ first, last int32 }

// resolvePorts replaces the names in a list of ports by their numbers, and leaves
// out what means nothing.
func resolvePorts(pod *corev1.Pod, ports string) (resolved string, unknown []string) {
	ranges, names := parsePorts(ports)
	for _, name := range names {
		found := false
		for _, container := range running(pod) {
			for _, port := range container.Ports {
				if port.Name == name && isTCP(port) {
					ranges, found = append(ranges, portRange{port.ContainerPort, port.ContainerPort}), true
				}
			}
		}
		if !found {
			unknown = append(unknown, name)
		}
	}
	slices.SortFunc(ranges, func(a, b portRange) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last)) })
	texts := make([]string, 0, len(ranges))
	for _, r := range slices.Compact(ranges) {
		if r.first == r.last {
			texts = append(texts, strconv.Itoa(int(r.first)))
		} else {
			texts = append(texts, fmt.Sprintf("%d-%d", r.first, r.last))
		}
	}
	return strings.Join(texts, ","), unknown
}

// parsePorts splits a list into ranges and what is not one.
func parsePorts(ports string) (ranges []portRange, others []string) {
	for item := range strings.SplitSeq(ports, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, ok := parsePort(first)
		to, ok2 := parsePort(last)
		if ok && ok2 && from <= to {
			ranges = append(ranges, portRange{from, to})
		} else {
			others = append(others, item)
		}
	}
	return ranges, others
}

func parsePort(text string) (int32, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	return int32(n), err == nil && n > 0
}

// running are the containers that live as long as the pod: its containers, and
// init containers that are sidecars.
func running(pod *corev1.Pod) []corev1.Container {
	all := slices.Clone(pod.Spec.Containers)
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, container)
		}
	}
	return all
}

// runsAs is the user that the pod asks for; 0 stands for the image's choice too,
// which is not known here.
func runsAs(pod *corev1.Pod, container corev1.Container) int64 {
	if s := container.SecurityContext; s != nil && s.RunAsUser != nil {
		return *s.RunAsUser
	}
	if s := pod.Spec.SecurityContext; s != nil && s.RunAsUser != nil {
		return *s.RunAsUser
	}
	return 0
}

func isTCP(port corev1.ContainerPort) bool {
	return port.Protocol == "" || port.Protocol == corev1.ProtocolTCP
}

func hasContainer(pod *corev1.Pod, name string) bool {
	named := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(pod.Spec.Containers, named) || slices.ContainsFunc(pod.Spec.InitContainers, named)
}

func list(ports map[int32]bool) string {
	sorted := make([]int32, 0, len(ports))
	for port := range ports {
		sorted = append(sorted, port)
	}
	slices.Sort(sorted)
	texts := make([]string, len(sorted))
	for i, port := range sorted {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}
