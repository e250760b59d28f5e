package manifests

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshproof/meshproof/clients/agent"
	"github.com/meshproof/meshproof/clients/certify"
)

const (
	// tokenAudience is for whom the identity service accepts tokens.
	tokenAudience = "identity.l5d.io"
	// tokenSeconds is the life of the token; the kubelet renews it.
	tokenSeconds int64 = 24 * 60 * 60
	tokenVolume        = "mesh-identity-token"
	// trustDomain is that of an installation with Linkerd's names.
	trustDomain = "cluster.local"
)

// ClientOptions says what a client pod can do.
type ClientOptions struct {
	Options
	// TrustAnchors, the mesh's roots in PEM, lets the client get a certificate
	// of its own for requests with clients.OwnIdentity. Empty is without.
	TrustAnchors string
	// OnHost puts the client on its node's network and has it call from the
	// node's address. Such a pod gets no proxy, takes any free control port
	// (control.Announced) and needs a namespace that is privileged.
	OnHost bool
}

// Client is a pod that runs the client agent, and its ServiceAccount. It is a
// bare Pod: a client that is gone is noticed, not replaced. Its control port is
// on loopback, so it has no readiness probe; control.Client.Ready asks.
func Client(o ClientOptions) []*unstructured.Unstructured {
	meta := o.podMeta()
	meta.Name, meta.Namespace = o.Name, o.Namespace
	container := corev1.Container{Name: "client", Args: []string{"client"}}
	var volumes []corev1.Volume
	if o.TrustAnchors != "" {
		seconds := tokenSeconds
		container.Env = []corev1.EnvVar{{Name: agent.EnvIdentity, Value: o.Identity()}, {Name: agent.EnvRoots, Value: o.TrustAnchors}}
		container.VolumeMounts = []corev1.VolumeMount{{Name: tokenVolume, MountPath: path.Dir(certify.DefaultTokenFile), ReadOnly: true}}
		volumes = []corev1.Volume{{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: tokenAudience, ExpirationSeconds: &seconds, Path: path.Base(certify.DefaultTokenFile)}}}}}}}
	}
	if o.OnHost {
		container.Args = append(container.Args, "--listen", "127.0.0.1:0")
		container.Env = append(container.Env, corev1.EnvVar{Name: agent.EnvLocalAddress,
			ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.hostIP"}}})
	}
	spec := o.podSpec(container)
	spec.Volumes = volumes
	if o.OnHost {
		spec.HostNetwork, spec.DNSPolicy = true, corev1.DNSClusterFirstWithHostNet
	}
	return append(o.serviceAccount(), convert(&corev1.Pod{TypeMeta: kind("v1", "Pod"), ObjectMeta: meta, Spec: spec}))
}

// AddAgent adds the client agent to the pods of a workload, as a container that
// calls from within them; its image is that of their first container.
func AddAgent(spec *corev1.PodSpec) {
	container := *spec.Containers[0].DeepCopy()
	container.Name, container.Args = "client", []string{"client"}
	container.Ports, container.Env, container.ReadinessProbe, container.LivenessProbe, container.StartupProbe = nil, nil, nil, nil, nil
	spec.Containers = append(spec.Containers, container)
}

// Identity is the mesh identity of a pod with these options.
func (o Options) Identity() string {
	account := o.ServiceAccount
	if account == "" {
		account = "default"
	}
	return account + "." + o.Namespace + ".serviceaccount.identity.linkerd." + trustDomain
}
