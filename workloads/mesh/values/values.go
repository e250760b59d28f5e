// Package values is the cluster-wide configuration of the mesh: what `meshproof
// install` writes into ConfigMap linkerd-config under the key `values`, and what
// the roles of the control plane read from there.
//
// A value is made from defaults and the installer's options, checked once, and
// written as YAML; a role parses it when it starts. A change means new manifests
// and roles that start again, never a value that changes under a running role.
//
// It refuses unknown fields and values that the mesh could not act on, so that a
// misspelt setting is found by whoever writes it and not by a pod.
package values

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/images/reference"
)

const (
	// ConfigMapName and Key are where the configuration is kept.
	ConfigMapName = "linkerd-config"
	Key           = "values"

	// Namespace and TrustDomain of an ordinary installation; the identities in
	// published policies contain both.
	Namespace   = "linkerd"
	TrustDomain = "cluster.local"
)

// Exemption says how a pod's interception recognises the proxy's own traffic.
type Exemption string

const (
	// ExemptAuto leaves the choice to the injector, which runs on the cluster's
	// nodes and so sees whether its containers have users of their own.
	ExemptAuto Exemption = "auto"
	// ExemptUID goes by the proxy's uid. It needs no privilege.
	ExemptUID Exemption = "uid"
	// ExemptMark goes by a socket mark, for clusters whose containers all run
	// under one uid. The proxy needs NET_RAW to set it.
	ExemptMark Exemption = "mark"
)

// Values is the whole configuration. Parse and Default fill every field.
type Values struct {
	// ControlPlaneNamespace is where the control plane runs.
	ControlPlaneNamespace string `json:"controlPlaneNamespace"`
	// ClusterDomain is the last part of Service names.
	ClusterDomain string `json:"clusterDomain"`
	// IdentityTrustDomain is the last part of identities.
	IdentityTrustDomain string `json:"identityTrustDomain"`
	// DefaultInboundPolicy is the cluster's default policy (D-01, D-03).
	DefaultInboundPolicy api.PolicyName `json:"defaultInboundPolicy"`
	// ClusterNetworks are the ranges that count as inside the cluster (D-04).
	ClusterNetworks []string `json:"clusterNetworks"`
	// ProbeNetworks are the ranges that probes may come from (D-05).
	ProbeNetworks []string `json:"probeNetworks"`
	// Dialect is the name of an api.Dialect.
	Dialect string `json:"dialect"`
	// ProxyExemption is how the proxy's own traffic escapes interception.
	ProxyExemption Exemption `json:"proxyExemption"`
	// ProxyImage is the image of everything the injector adds to pods that do not
	// say otherwise, ControllerImage that of the control plane.
	ProxyImage      string `json:"proxyImage"`
	ControllerImage string `json:"controllerImage"`
	// ProxyVersion is told on injected pods, by annotation, and is the tag of
	// images that pods name without one.
	ProxyVersion string `json:"proxyVersion"`
	// ImagePullPolicy is when nodes ask a registry for either.
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy"`
	// NativeSidecar makes proxies init containers that stay, where the cluster has
	// them, on pods that do not say otherwise.
	NativeSidecar bool `json:"nativeSidecar"`
	// ProxyLogLevel of pods that do not say otherwise.
	ProxyLogLevel string `json:"proxyLogLevel"`
	// OpaquePorts are opaque on pods that expose them and say nothing else (D-16).
	OpaquePorts string `json:"opaquePorts"`
	// SkipInboundPorts and SkipOutboundPorts bypass the proxy on pods that say
	// nothing else (D-19); ports and ranges, separated by commas.
	SkipInboundPorts  string `json:"skipInboundPorts"`
	SkipOutboundPorts string `json:"skipOutboundPorts"`
}

// Default is the configuration of an installation without any option.
func Default() Values {
	return Values{
		ControlPlaneNamespace: Namespace,
		ClusterDomain:         "cluster.local",
		IdentityTrustDomain:   TrustDomain,
		DefaultInboundPolicy:  api.AllUnauthenticated,
		ClusterNetworks:       []string{"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"},
		ProbeNetworks:         []string{"0.0.0.0/0", "::/0"},
		Dialect:               api.DialectDocumented,
		ProxyExemption:        ExemptAuto,
		ProxyImage:            "meshproof/agent:dev",
		ControllerImage:       "meshproof/agent:dev",
		ProxyVersion:          "dev",
		ImagePullPolicy:       corev1.PullIfNotPresent,
		ProxyLogLevel:         "info",
		OpaquePorts:           "25,587,3306,4444,5432,6379,9300,11211",
		SkipInboundPorts:      "4567,4568",
	}
}

// Parse reads what Marshal wrote; fields that are absent keep their default.
func Parse(text []byte) (Values, error) {
	v := Default()
	// Lists are replaced, not filled up from the defaults.
	if err := yaml.UnmarshalStrict(text, &v); err != nil {
		return Values{}, fmt.Errorf("read the mesh's configuration: %w", err)
	}
	if err := v.Validate(); err != nil {
		return Values{}, err
	}
	return v, nil
}

// Marshal writes v as YAML, always the same bytes for the same value.
func (v Values) Marshal() ([]byte, error) {
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the mesh's configuration: %w", err)
	}
	return text, nil
}

// Validate names everything that is wrong with v.
func (v Values) Validate() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !v.DefaultInboundPolicy.Valid() {
		say("default inbound policy %q is none of %s", v.DefaultInboundPolicy, join(api.PolicyNames()))
	}
	for _, list := range []struct {
		name     string
		networks []string
	}{{"cluster", v.ClusterNetworks}, {"probe", v.ProbeNetworks}} {
		for _, network := range list.networks {
			if _, err := netip.ParsePrefix(network); err != nil {
				say("%s network %q is not a range of addresses such as 10.0.0.0/8", list.name, network)
			}
		}
	}
	if _, err := api.ParseDialect(v.Dialect); err != nil {
		wrong = append(wrong, err)
	}
	if !slices.Contains([]Exemption{ExemptAuto, ExemptUID, ExemptMark}, v.ProxyExemption) {
		say("proxy exemption %q is none of %q, %q and %q", v.ProxyExemption, ExemptAuto, ExemptUID, ExemptMark)
	}
	for _, text := range []struct{ name, value string }{
		{"control plane namespace", v.ControlPlaneNamespace}, {"cluster domain", v.ClusterDomain},
		{"identity trust domain", v.IdentityTrustDomain},
	} {
		if text.value == "" || strings.ContainsAny(text.value, " \t\n\"'") {
			say("%s %q is not usable", text.name, text.value)
		}
	}
	for _, image := range []struct{ name, reference string }{{"proxy image", v.ProxyImage}, {"controller image", v.ControllerImage}} {
		if !reference.Valid(image.reference) {
			say("%s %q is no image's name such as registry.example/name:tag", image.name, image.reference)
		}
	}
	if !ValidPullPolicy(v.ImagePullPolicy) {
		say("image pull policy %q is none of %s", v.ImagePullPolicy, join(pullPolicies))
	}
	return errors.Join(wrong...)
}

var pullPolicies = []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}

// ValidPullPolicy says whether Kubernetes knows the policy.
func ValidPullPolicy(policy corev1.PullPolicy) bool { return slices.Contains(pullPolicies, policy) }

// Identity is the name in the certificate of a pod that runs under a
// ServiceAccount.
func (v Values) Identity(serviceAccount, namespace string) string {
	return Identity(serviceAccount, namespace, v.ControlPlaneNamespace, v.IdentityTrustDomain)
}

// Identity is Values.Identity for those who have only these two settings.
func Identity(serviceAccount, namespace, controlPlaneNamespace, trustDomain string) string {
	return strings.Join([]string{serviceAccount, namespace, "serviceaccount.identity", controlPlaneNamespace, trustDomain}, ".")
}

func join[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}
