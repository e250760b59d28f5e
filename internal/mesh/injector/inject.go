package injector

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/images/reference"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// What an injected pod consists of; the names are Linkerd's own.
const (
	InitContainer     = "linkerd-init"
	VersionAnnotation = "linkerd.io/proxy-version"

	// ProxyUID is the proxy's user, by which interception knows its traffic.
	ProxyUID = 2102
	// ProxyMark stands in for it where all containers run under one user.
	ProxyMark = 2102

	outboundPort, observePort = 4140, 4192

	tokenVolume   = "linkerd-identity-token"
	tokenPath     = "/var/run/secrets/tokens"
	tokenAudience = "identity.l5d.io"
	keyVolume     = "linkerd-identity-end-entity"
	keyPath       = "/var/run/linkerd/identity/end-entity"
	agent         = "/usr/local/bin/meshproof-agent"

	// tokenSeconds is the life of a projected token; the kubelet renews it.
	tokenSeconds = 24 * 60 * 60
	// detectTimeout of ports whose policy does not say otherwise (T-11).
	detectTimeout = "10s"
	// awaitTimeout is how long the proxy may take to become ready before the
	// kubelet restarts it; the pod's own containers wait meanwhile.
	awaitTimeout = "2m"
)

// The kubelet's probes of the proxy: readiness is looked at often, because a pod
// is not ready before its proxy is; liveness only has to notice one that hangs.
const (
	readinessPeriodSeconds = 1
	livenessPeriodSeconds  = 10
	livenessDelaySeconds   = 10
)

// Settings is the cluster's configuration, and what a proxy must trust.
type Settings struct {
	values.Values
	// TrustAnchors is PEM text.
	TrustAnchors string
	// NoNativeSidecars says that the cluster does not have them.
	NoNativeSidecars bool

	fixedAtCreation bool
}

// NewSettings fails when the values name no known dialect.
func NewSettings(v values.Values, anchors string) (Settings, error) {
	dialect, err := api.ParseDialect(v.Dialect)
	if err != nil {
		return Settings{}, err
	}
	return Settings{Values: v, TrustAnchors: anchors, fixedAtCreation: dialect.DefaultFixedAtCreation}, nil
}

// Result is what became of a pod.
type Result struct {
	// Pod is the mutated pod, nil when it stays as it is.
	Pod *corev1.Pod
	// Skipped says why it stays as it is.
	Skipped string
	// Notes are for events, whether injected or not.
	Notes []Note
}

// Inject is the whole mutation. It changes neither of its arguments and gives
// the same result for the same arguments.
func Inject(pod *corev1.Pod, namespace *corev1.Namespace, s Settings) Result {
	mode, why, notes := wanted(pod, namespace, s)
	if mode == "" {
		return Result{Skipped: why, Notes: notes}
	}
	c := choose(pod, namespace, s)
	made := pod.DeepCopy()
	if made.Labels == nil {
		made.Labels = map[string]string{}
	}
	made.Labels[api.ControlPlaneLabel] = s.ControlPlaneNamespace
	if made.Annotations == nil {
		made.Annotations = map[string]string{}
	}
	made.Annotations[VersionAnnotation] = reference.Version(c.image)
	for key, value := range c.podAnnotations {
		made.Annotations[key] = value
	}
	// Last of the init containers: those before it are not redirected, as there
	// is no proxy yet to be redirected to.
	made.Spec.InitContainers = append(made.Spec.InitContainers, initContainer(s, c))
	// The proxy's postStart hook holds up all containers after it until it can
	// serve them.
	proxy := proxyContainer(s, c)
	if c.nativeSidecar {
		proxy.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
		made.Spec.InitContainers = append(made.Spec.InitContainers, proxy)
	} else {
		made.Spec.Containers = slices.Insert(made.Spec.Containers, 0, proxy)
	}
	made.Spec.Volumes = append(made.Spec.Volumes, volumes()...)
	return Result{Pod: made, Notes: c.notes}
}

func initContainer(s Settings, c choices) corev1.Container {
	args := []string{"proxy-init", "--incoming-proxy-port", strconv.Itoa(c.listeners.inbound), "--outgoing-proxy-port", strconv.Itoa(outboundPort)}
	if s.ProxyExemption == values.ExemptMark {
		args = append(args, "--proxy-mark", strconv.Itoa(ProxyMark))
	} else {
		args = append(args, "--proxy-uid", strconv.Itoa(ProxyUID))
	}
	skipInbound := c.listeners.skipped()
	if c.skipInbound != "" {
		skipInbound += "," + c.skipInbound
	}
	args = append(args, "--inbound-ports-to-ignore", skipInbound)
	if c.skipOutbound != "" {
		args = append(args, "--outbound-ports-to-ignore", c.skipOutbound)
	}
	return corev1.Container{
		Name: InitContainer, Image: c.image, ImagePullPolicy: c.pullPolicy, Args: args,
		SecurityContext: &corev1.SecurityContext{
			// Changing the redirection takes root and this capability; this container
			// is the only one that has it, and it is gone before any other starts.
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			RunAsUser:    ptr(int64(0)), RunAsGroup: ptr(int64(0)), RunAsNonRoot: ptr(false),
			Privileged: ptr(false), AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

func proxyContainer(s Settings, c choices) corev1.Container {
	capabilities := &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	if s.ProxyExemption == values.ExemptMark {
		capabilities.Add = []corev1.Capability{"NET_RAW"}
	}
	return corev1.Container{
		Name: api.ProxyContainer, Image: c.image, ImagePullPolicy: c.pullPolicy, Args: []string{"proxy"},
		Env: environment(s, c),
		Ports: []corev1.ContainerPort{
			{Name: "linkerd-proxy", ContainerPort: int32(c.listeners.inbound), Protocol: corev1.ProtocolTCP},
			{Name: "linkerd-admin", ContainerPort: int32(c.listeners.admin), Protocol: corev1.ProtocolTCP},
		},
		ReadinessProbe: probe("/ready", c.listeners.admin, readinessPeriodSeconds, 0),
		LivenessProbe:  probe("/live", c.listeners.admin, livenessPeriodSeconds, livenessDelaySeconds),
		Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: c.listeners.awaiting()}}},
		Resources: c.resources,
		SecurityContext: &corev1.SecurityContext{
			Capabilities: capabilities,
			RunAsUser:    ptr(int64(ProxyUID)), RunAsGroup: ptr(int64(ProxyUID)), RunAsNonRoot: ptr(true),
			AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: keyVolume, MountPath: keyPath},
			{Name: tokenVolume, MountPath: tokenPath, ReadOnly: true},
		},
	}
}

func probe(path string, port int, period, delay int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(int32(port))}},
		PeriodSeconds: period, InitialDelaySeconds: delay,
	}
}

// volumes: keys and requests stay in memory; the token is for the identity
// service and nobody else.
func volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: keyVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: tokenAudience, ExpirationSeconds: ptr(int64(tokenSeconds)), Path: tokenVolume}}},
		}}},
	}
}

// environment is the proxy's configuration, rule book section 14. Names that
// begin with an underscore are for $(…) in later ones.
func environment(s Settings, c choices) []corev1.EnvVar {
	var env []corev1.EnvVar
	set := func(name, value string) { env = append(env, corev1.EnvVar{Name: name, Value: value}) }
	field := func(name, path string) {
		env = append(env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}})
	}
	role := func(account string) string { return s.Identity(account, s.ControlPlaneNamespace) }
	service := func(name string, port int) string {
		return name + "." + s.ControlPlaneNamespace + ".svc." + s.ClusterDomain + ":" + strconv.Itoa(port)
	}

	field("_pod_name", "metadata.name")
	field("_pod_ns", "metadata.namespace")
	field("_pod_sa", "spec.serviceAccountName")
	field("_pod_nodeName", "spec.nodeName")

	set("LINKERD2_PROXY_LOG", c.logLevel)
	set("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "0.0.0.0:"+strconv.Itoa(c.listeners.inbound))
	set("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:"+strconv.Itoa(outboundPort))
	set("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "0.0.0.0:"+strconv.Itoa(c.listeners.admin))
	set("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", "0.0.0.0:"+strconv.Itoa(c.listeners.control))
	field("LINKERD2_PROXY_INBOUND_IPS", "status.podIPs")
	set("LINKERD2_PROXY_INBOUND_PORTS", c.inboundPorts)
	set("LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", c.opaquePorts)
	if c.identityPorts != "" {
		set("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY", c.identityPorts)
	}
	set("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", c.detectTimeout)
	if c.unusedTimeout != "" {
		set("LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT", c.unusedTimeout)
	}
	set(api.ProxyDefaultPolicyVariable, string(c.defaultPolicy))
	if c.ingress {
		set("LINKERD2_PROXY_INGRESS_MODE", "true")
	}

	set("LINKERD2_PROXY_POLICY_SVC_ADDR", service("linkerd-policy", 8090))
	set("LINKERD2_PROXY_POLICY_SVC_NAME", role("linkerd-destination"))
	set("LINKERD2_PROXY_POLICY_WORKLOAD", `{"ns":"$(_pod_ns)","pod":"$(_pod_name)"}`)
	set("LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS", strings.Join(s.ClusterNetworks, ","))

	set("LINKERD2_PROXY_DESTINATION_SVC_ADDR", service("linkerd-dst-headless", 8086))
	set("LINKERD2_PROXY_DESTINATION_SVC_NAME", role("linkerd-destination"))
	set("LINKERD2_PROXY_DESTINATION_CONTEXT", `{"ns":"$(_pod_ns)","nodeName":"$(_pod_nodeName)","pod":"$(_pod_name)"}`)

	set("LINKERD2_PROXY_IDENTITY_SVC_ADDR", service("linkerd-identity-headless", 8080))
	set("LINKERD2_PROXY_IDENTITY_SVC_NAME", role("linkerd-identity"))
	set("LINKERD2_PROXY_IDENTITY_DIR", keyPath)
	set("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", s.TrustAnchors)
	set("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", tokenPath+"/"+tokenVolume)
	set("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", s.Identity("$(_pod_sa)", "$(_pod_ns)"))

	if s.ProxyExemption == values.ExemptMark {
		set("MESHPROOF_PROXY_SOCKET_MARK", strconv.Itoa(ProxyMark))
	}
	set("MESHPROOF_PROXY_OBSERVE_ADDR", "127.0.0.1:"+strconv.Itoa(observePort))
	set("MESHPROOF_DIALECT", s.Dialect)
	return env
}

func ptr[T any](v T) *T { return &v }
