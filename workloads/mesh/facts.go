package mesh

import (
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// Object names something in a cluster.
type Object struct {
	// Group, Version and Resource as in the API's paths; the group of core
	// resources is "".
	Group, Version, Resource string
	// Namespace is "" for what belongs to none.
	Namespace, Name string
}

// Reference is the object reduced to what kubectl needs to delete it.
func (o Object) Reference() map[string]any {
	version := o.Version
	if o.Group != "" {
		version = o.Group + "/" + o.Version
	}
	metadata := map[string]any{"name": o.Name}
	if o.Namespace != "" {
		metadata["namespace"] = o.Namespace
	}
	return map[string]any{"apiVersion": version, "kind": kindOf[o.Resource], "metadata": metadata}
}

// kindOf names the kind of each resource that Uninstall lists.
var kindOf = map[string]string{
	"deployments": "Deployment", "namespaces": "Namespace", "clusterroles": "ClusterRole", "clusterrolebindings": "ClusterRoleBinding",
	"mutatingwebhookconfigurations": "MutatingWebhookConfiguration", "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
	"customresourcedefinitions": "CustomResourceDefinition",
}

// Condition is what must be true of an object.
type Condition string

// The conditions of facts.
const (
	// Exists: it can be read.
	Exists Condition = "exists"
	// Accepting: objects of this CustomResourceDefinition can be listed. Its own
	// condition Established comes earlier and is not enough.
	Accepting Condition = "accepting"
	// AcceptingIfThere: the same, unless the mesh was installed without it.
	AcceptingIfThere Condition = "accepting, if it is there"
	// RolledOut: of a Deployment, the generation is observed, all replicas are
	// updated and available, and no others are left.
	RolledOut Condition = "rolled out"
	// Trusted: every webhook of this configuration has a CA bundle.
	Trusted Condition = "trusted"
)

// Fact is one thing to wait for.
type Fact struct {
	Object    Object
	Condition Condition
}

const namespace = values.Namespace

// WaitReady is what has to be true before workloads are created: earlier, a pod
// could come up without a proxy, and a policy without anybody to look at it.
// Once all facts hold after an apply, pods get the configuration applied last.
func WaitReady() []Fact {
	facts := []Fact{}
	for _, crd := range crds() {
		condition := Accepting
		if IsGatewayCRD(crd.Name) {
			condition = AcceptingIfThere
		}
		facts = append(facts, Fact{crd, condition})
	}
	facts = append(facts, Fact{Object{Version: "v1", Resource: "configmaps", Namespace: namespace, Name: "linkerd-identity-trust-roots"}, Exists})
	for _, deployment := range Deployments() {
		facts = append(facts, Fact{deployment, RolledOut})
	}
	for _, configuration := range webhookConfigurations() {
		facts = append(facts, Fact{configuration, Trusted})
	}
	return facts
}

// Deployments are the control plane's.
func Deployments() []Object {
	var all []Object
	for _, name := range []string{"linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"} {
		all = append(all, Object{"apps", "v1", "deployments", namespace, name})
	}
	return all
}

// Uninstall is what to delete, in this order. Webhooks go first, because they
// would refuse what nobody is left to answer for; custom resources last, and
// with their definitions every policy and route. Meshed pods keep their proxies
// until they are created again.
func Uninstall() []Object {
	all := webhookConfigurations()
	all = append(all, Deployments()...)
	const rbac = "rbac.authorization.k8s.io"
	for _, role := range []string{"identity", "destination", "proxy-injector"} {
		name := "linkerd-" + namespace + "-" + role
		all = append(all,
			Object{Group: rbac, Version: "v1", Resource: "clusterrolebindings", Name: name},
			Object{Group: rbac, Version: "v1", Resource: "clusterroles", Name: name})
	}
	all = append(all, Object{Version: "v1", Resource: "namespaces", Name: namespace})
	return append(all, crds()...)
}

func webhookConfigurations() []Object {
	const group = "admissionregistration.k8s.io"
	return []Object{
		{Group: group, Version: "v1", Resource: "mutatingwebhookconfigurations", Name: "linkerd-proxy-injector-webhook-config"},
		{Group: group, Version: "v1", Resource: "validatingwebhookconfigurations", Name: "linkerd-policy-validator-webhook-config"},
	}
}

func crds() []Object {
	var all []Object
	for _, resource := range api.Resources() {
		all = append(all, Object{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: api.CRDName(resource)})
	}
	return all
}

// GatewayCRDs names the CRDs of the Gateway API that an installation has.
func GatewayCRDs() []string {
	var names []string
	for _, crd := range crds() {
		if IsGatewayCRD(crd.Name) {
			names = append(names, crd.Name)
		}
	}
	return names
}

// IsGatewayCRD says whether that is the name of a CRD of the Gateway API, which
// others install as well, and use.
func IsGatewayCRD(name string) bool { return strings.HasSuffix(name, "."+api.GatewayGroup) }
