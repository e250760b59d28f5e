package oracle

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Created reports whether the pod has been through the injector: it then carries
// the label of its control plane. A pod of a manifest has yet to be created, and
// is judged as it would be created now.
func Created(pod *corev1.Pod) bool {
	_, created := pod.Labels[api.ControlPlaneLabel]
	return created
}

// defaultOpaquePorts and defaultSkippedPorts are settings of an installation
// (D-16, D-19).
var (
	defaultOpaquePorts  = "25,587,3306,4444,5432,6379,9300,11211"
	defaultSkippedPorts = "4567,4568"
)

// annotation finds an annotation where it counts: on the pod, and for a pod that
// is yet to be created on its namespace, from where the injector copies it
// unless the pod has the key (D-08).
func annotation(pod *corev1.Pod, namespace *corev1.Namespace, key string) (value, where string, found bool) {
	if value, found := pod.Annotations[key]; found {
		return value, "the pod", true
	}
	if namespace != nil && !Created(pod) {
		if value, found := namespace.Annotations[key]; found {
			return value, "namespace " + namespace.Name, true
		}
	}
	return "", "", false
}

// containers are all of a pod, initContainers included (X-02, P-01), with the
// proxy's own, which every injected pod has.
func containers(pod *corev1.Pod) []corev1.Container {
	all := append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...)
	if slices.ContainsFunc(all, func(c corev1.Container) bool { return c.Name == api.ProxyContainer }) {
		return all
	}
	return append(all, corev1.Container{
		Name:          api.ProxyContainer,
		Ports:         []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: api.InboundPort}, {Name: api.AdminPortName, ContainerPort: api.AdminPort}},
		LivenessProbe: adminProbe("/live"), ReadinessProbe: adminProbe("/ready"),
	})
}

// adminProbe is one of P-15.
func adminProbe(path string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(api.AdminPort)}}}
}

func isTCP(port corev1.ContainerPort) bool {
	return port.Protocol == "" || port.Protocol == corev1.ProtocolTCP
}

// Enforced is D-21: only pods with a proxy are policed. One that is yet to be
// created counts as injected unless an annotation says that it is not; one that a
// cluster has printed has a UID, and shows whether it was.
func Enforced(pod *corev1.Pod, namespace *corev1.Namespace) (bool, string) {
	value, where, found := annotation(pod, namespace, api.InjectAnnotation)
	switch {
	case Created(pod):
		return true, "the pod has a proxy"
	case pod.UID != "":
		return false, "the pod runs without a proxy, and nothing enforces policy"
	case found && value == api.InjectDisabled:
		return false, fmt.Sprintf("%s is %s on %s: the pod has no proxy, and nothing enforces policy", api.InjectAnnotation, value, where)
	case found:
		return true, fmt.Sprintf("%s is %s on %s: the pod gets a proxy", api.InjectAnnotation, value, where)
	default:
		return true, "assumed: the pod gets a proxy"
	}
}

// Bypassed is D-19 and X-09: the proxy never sees a port that is skipped, nor its
// own control port; its admin port is policed all the same.
func Bypassed(pod *corev1.Pod, namespace *corev1.Namespace, port uint16) (bool, string) {
	if port == api.ControlPort {
		return true, "the proxy's control port is not redirected"
	}
	if port == api.AdminPort {
		return false, ""
	}
	list, where, found := annotation(pod, namespace, api.SkipInboundPortsAnnotation)
	if !found {
		list, where = defaultSkippedPorts, "the installation"
	}
	for _, one := range strings.Split(list, ",") {
		if inRange(one, port) {
			return true, fmt.Sprintf("%s of %s skips port %d: no policy applies", api.SkipInboundPortsAnnotation, where, port)
		}
	}
	return false, ""
}

// inRange reports whether text is the port or a range N-M that holds it.
func inRange(text string, port uint16) bool {
	first, last, ok := portRange(text)
	return ok && first <= port && port <= last
}

func portRange(text string) (first, last uint16, ok bool) {
	from, to, isRange := strings.Cut(strings.TrimSpace(text), "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	return uint16(a), uint16(b), errA == nil && errB == nil
}

// DefaultPolicy is D-07 to D-13 and the first row of 19.1: which policy has the
// ports of the pod that no Server selects, and where it comes from. An annotation
// on a Deployment's own metadata is nowhere to be seen here (D-09).
func DefaultPolicy(settings Settings, pod *corev1.Pod, namespace *corev1.Namespace, dialect api.Dialect) (api.PolicyName, string) {
	value, where, found := annotation(pod, namespace, api.DefaultPolicyAnnotation)
	if dialect.DefaultFixedAtCreation && Created(pod) {
		// What was resolved when the pod was created stands in its proxy container;
		// an annotation of today says nothing.
		value, where, found = proxyVariable(pod), "its proxy, since it was created", true
		if value == "" {
			found = false
		}
	}
	policy := api.PolicyName(value)
	switch {
	case !found:
		return settings.DefaultPolicy, fmt.Sprintf("%s, the cluster's default", settings.DefaultPolicy)
	case !policy.Valid():
		return settings.DefaultPolicy, fmt.Sprintf("%s, the cluster's default, because %q on %s is no policy", settings.DefaultPolicy, value, where)
	default:
		return policy, fmt.Sprintf("%s, by the annotation on %s", policy, where)
	}
}

func proxyVariable(pod *corev1.Pod) string {
	for _, c := range containers(pod) {
		for _, e := range c.Env {
			if c.Name == api.ProxyContainer && e.Name == api.ProxyDefaultPolicyVariable {
				return e.Value
			}
		}
	}
	return ""
}

// asAskedFor is a pod that runs as it should have been created, by the rules for
// pods that are yet to be: with the default policy in its proxy (D-07 to D-12),
// and with the annotations that it has unless somebody has edited them since.
func (o Oracle) asAskedFor(pod *corev1.Pod, port uint16) *corev1.Pod {
	origin, known := o.World.Origins[pod.Namespace+"/"+pod.Name]
	if !known || !Created(pod) {
		return pod
	}
	pod = pod.DeepCopy()
	edited := func(key string) bool { return pod.Annotations[key] != origin.Annotations[key] }
	annotate := func(key, value string) {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		if pod.Annotations[key] = value; value == "" {
			delete(pod.Annotations, key)
		}
	}
	policy, _ := o.Rules.DefaultPolicy(origin.Settings, origin.Pod, origin.Namespace, o.Dialect)
	for i := range pod.Spec.Containers {
		setDefault(&pod.Spec.Containers[i], policy)
	}
	for i := range pod.Spec.InitContainers {
		setDefault(&pod.Spec.InitContainers[i], policy)
	}
	// One that is no policy stays as it is: where annotations are followed, what
	// holds instead is the cluster's default of today (D-12).
	value, _, said := annotation(origin.Pod, origin.Namespace, api.DefaultPolicyAnnotation)
	if said && api.PolicyName(value).Valid() && !edited(api.DefaultPolicyAnnotation) {
		annotate(api.DefaultPolicyAnnotation, string(policy))
	}
	if !edited(api.OpaquePortsAnnotation) {
		list := ""
		if opaque, _ := o.Rules.OpaqueByDefault(origin.Pod, origin.Namespace, port, o.Dialect); opaque {
			list = strconv.Itoa(int(port))
		}
		annotate(api.OpaquePortsAnnotation, list)
	}
	if list, _, said := annotation(origin.Pod, origin.Namespace, api.SkipInboundPortsAnnotation); said {
		annotate(api.SkipInboundPortsAnnotation, list)
	}
	return pod
}

// setDefault is what the injector does to the proxy's container.
func setDefault(c *corev1.Container, policy api.PolicyName) {
	if c.Name != api.ProxyContainer {
		return
	}
	for i := range c.Env {
		if c.Env[i].Name == api.ProxyDefaultPolicyVariable {
			c.Env[i].Value = string(policy)
		}
	}
}

// RequireIdentity is D-18: on a default server the annotation turns the allowing
// policies into their authenticated twins.
func RequireIdentity(policy api.PolicyName, pod *corev1.Pod, port uint16) api.PolicyName {
	twin := map[api.PolicyName]api.PolicyName{api.AllUnauthenticated: api.AllAuthenticated, api.ClusterUnauthenticated: api.ClusterAuthenticated}[policy]
	for _, one := range strings.Split(pod.Annotations[api.RequireIdentityAnnotation], ",") {
		if inRange(one, port) && twin != "" {
			return twin
		}
	}
	return policy
}

// OpaqueByDefault is X-10 with D-15 and D-16: whether a port that no Server
// selects is opaque. A list on the pod replaces the installation's, which counts
// for declared ports only.
func OpaqueByDefault(pod *corev1.Pod, namespace *corev1.Namespace, port uint16, dialect api.Dialect) (bool, string) {
	list, where, found := annotation(pod, namespace, api.OpaquePortsAnnotation)
	if !found && !Created(pod) {
		list, where = defaultOpaquePorts, "the installation"
		if len(declared(pod, port)) == 0 {
			return false, ""
		}
	}
	opaque := false
	for _, one := range strings.Split(list, ",") {
		one = strings.TrimSpace(one)
		_, _, number := portRange(one)
		switch {
		case one == "":
		case number:
			opaque = opaque || inRange(one, port)
		case !dialect.QuirksRepaired:
			// D-15: one name makes the controller discard the whole list.
			return false, fmt.Sprintf("%s on %s holds the name %q, so the list is discarded", api.OpaquePortsAnnotation, where, one)
		default:
			opaque = opaque || slices.Contains(declared(pod, port), one)
		}
	}
	if opaque {
		return true, fmt.Sprintf("port %d is opaque by %s of %s", port, api.OpaquePortsAnnotation, where)
	}
	return false, ""
}

// declared are the names under which containers declare the TCP port; "" for a
// declaration without a name.
func declared(pod *corev1.Pod, port uint16) []string {
	var names []string
	for _, c := range containers(pod) {
		for _, p := range c.Ports {
			if p.ContainerPort == int32(port) && isTCP(p) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

// Ports lists the TCP ports that the pod declares, the proxy's admin port among
// them, with their names.
func Ports(pod *corev1.Pod) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, c := range containers(pod) {
		for _, p := range c.Ports {
			known := slices.ContainsFunc(ports, func(q corev1.ContainerPort) bool { return q.ContainerPort == p.ContainerPort && q.Name == p.Name })
			if isTCP(p) && p.ContainerPort != api.InboundPort && !known {
				ports = append(ports, p)
			}
		}
	}
	slices.SortStableFunc(ports, func(a, b corev1.ContainerPort) int { return cmp.Compare(a.ContainerPort, b.ContainerPort) })
	return ports
}
