package mesh

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// kinds are the types that manifests are read into, strictly.
var kinds = map[string]func() runtime.Object{
	"Namespace":                      func() runtime.Object { return &corev1.Namespace{} },
	"ServiceAccount":                 func() runtime.Object { return &corev1.ServiceAccount{} },
	"ConfigMap":                      func() runtime.Object { return &corev1.ConfigMap{} },
	"Service":                        func() runtime.Object { return &corev1.Service{} },
	"Deployment":                     func() runtime.Object { return &appsv1.Deployment{} },
	"Role":                           func() runtime.Object { return &rbacv1.Role{} },
	"RoleBinding":                    func() runtime.Object { return &rbacv1.RoleBinding{} },
	"ClusterRole":                    func() runtime.Object { return &rbacv1.ClusterRole{} },
	"ClusterRoleBinding":             func() runtime.Object { return &rbacv1.ClusterRoleBinding{} },
	"CustomResourceDefinition":       func() runtime.Object { return &apiextensionsv1.CustomResourceDefinition{} },
	"MutatingWebhookConfiguration":   func() runtime.Object { return &admissionregistrationv1.MutatingWebhookConfiguration{} },
	"ValidatingWebhookConfiguration": func() runtime.Object { return &admissionregistrationv1.ValidatingWebhookConfiguration{} },
}

// installed are the objects of an installation by "Kind/name", and their order.
func installed(t *testing.T, o Options) (map[string]runtime.Object, []string) {
	t.Helper()
	text, err := Install(o)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]runtime.Object{}
	var order []string
	for _, document := range strings.Split(string(text), "\n---\n") {
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		create, known := kinds[meta.Kind]
		if !known {
			t.Fatalf("a %s is installed", meta.Kind)
		}
		object := create()
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Fatalf("%s %s: %v", meta.Kind, meta.Name, err)
		}
		key := meta.Kind + "/" + meta.Name
		if objects[key] != nil {
			t.Fatalf("%s is installed twice", key)
		}
		objects[key] = object
		order = append(order, key)
	}
	return objects, order
}

func deploymentsOf(objects map[string]runtime.Object) map[string]*appsv1.Deployment {
	found := map[string]*appsv1.Deployment{}
	for _, object := range objects {
		if d, ok := object.(*appsv1.Deployment); ok {
			found[d.Name] = d
		}
	}
	return found
}

func TestInstallIsTheSameBytesEveryTime(t *testing.T) {
	first, err := Install(Options{HA: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := Install(Options{HA: true})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatal("two installations of the same options differ")
		}
	}
}

func TestInstallBeginsWithWhatTheRestNeeds(t *testing.T) {
	_, order := installed(t, Options{})
	want := []string{"Namespace/linkerd"}
	for _, resource := range api.Resources() {
		want = append(want, "CustomResourceDefinition/"+api.CRDName(resource))
	}
	slices.Sort(want[1:])
	got := slices.Clone(order[:len(want)])
	slices.Sort(got[1:])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if last := order[len(order)-2:]; !strings.Contains(last[0], "Webhook") || !strings.Contains(last[1], "Webhook") {
		t.Errorf("webhooks are not last: %v", last)
	}
}

// The Gateway API belongs to no mesh: where it stands already it is left alone.
func TestCRDsThatAreSkippedAreLeftOutAndNothingElse(t *testing.T) {
	all, _ := installed(t, Options{})
	some, _ := installed(t, Options{SkipCRDs: GatewayCRDs()})
	var left []string
	for key := range all {
		if some[key] == nil {
			left = append(left, key)
		}
	}
	slices.Sort(left)
	want := []string{"CustomResourceDefinition/grpcroutes.gateway.networking.k8s.io", "CustomResourceDefinition/httproutes.gateway.networking.k8s.io"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("-want +left out\n%s", diff)
	}
}

// the webhook is asked about every kind that it judges, and C-01 to C-30:
// the controller may watch every kind that is installed.
func TestEveryInstalledKindIsValidatedAndMayBeWatched(t *testing.T) {
	objects, _ := installed(t, Options{})
	hook := objects["ValidatingWebhookConfiguration/linkerd-policy-validator-webhook-config"].(*admissionregistrationv1.ValidatingWebhookConfiguration).Webhooks[0]
	role := objects["ClusterRole/linkerd-linkerd-destination"].(*rbacv1.ClusterRole)
	for _, resource := range api.Resources() {
		if !slices.ContainsFunc(hook.Rules, func(r admissionregistrationv1.RuleWithOperations) bool {
			return slices.Equal(r.APIGroups, []string{resource.Group}) && slices.Equal(r.APIVersions, []string{"*"}) && slices.Contains(r.Resources, resource.Resource) &&
				slices.Equal(r.Operations, []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update})
		}) {
			t.Errorf("nobody validates %s", resource.GroupResource())
		}
		if !slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
			return slices.Equal(r.APIGroups, []string{resource.Group}) && slices.Contains(r.Resources, resource.Resource) && slices.Equal(r.Verbs, []string{"list", "watch"})
		}) {
			t.Errorf("the controller may not watch %s", resource.GroupResource())
		}
		if !slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
			return slices.Equal(r.Resources, []string{"customresourcedefinitions"}) && slices.Contains(r.ResourceNames, api.CRDName(resource)) && slices.Equal(r.Verbs, []string{"get"})
		}) {
			t.Errorf("the controller may not look for the CRD of %s", resource.GroupResource())
		}
	}
}

// both webhooks.
func TestTheWebhooksPassOverNamespacesThatOptOut(t *testing.T) {
	objects, _ := installed(t, Options{})
	want := metav1.LabelSelectorRequirement{Key: api.AdmissionWebhooksLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{api.AdmissionWebhooksLabelDisable}}
	for key, selector := range map[string]*metav1.LabelSelector{
		"mutating":   objects["MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config"].(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks[0].NamespaceSelector,
		"validating": objects["ValidatingWebhookConfiguration/linkerd-policy-validator-webhook-config"].(*admissionregistrationv1.ValidatingWebhookConfiguration).Webhooks[0].NamespaceSelector,
	} {
		if diff := cmp.Diff(want, selector.MatchExpressions[0]); diff != "" {
			t.Errorf("%s: -want +got\n%s", key, diff)
		}
	}
}

// Control plane pods satisfy the strictest of the pod security standards, which
// their namespace enforces.
func TestControlPlanePodsAreRestricted(t *testing.T) {
	objects, _ := installed(t, Options{})
	if got := objects["Namespace/linkerd"].(*corev1.Namespace).Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("the namespace enforces %q", got)
	}
	for name, deployment := range deploymentsOf(objects) {
		spec := deployment.Spec.Template.Spec
		if spec.HostNetwork || spec.HostPID || spec.HostIPC {
			t.Errorf("%s uses the host's namespaces", name)
		}
		if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security context is %v", name, s)
		}
		for _, container := range spec.Containers {
			s := container.SecurityContext
			if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil ||
				!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
				t.Errorf("%s/%s: security context is %v", name, container.Name, s)
			}
			if probe := container.ReadinessProbe; probe == nil || probe.PeriodSeconds != 1 || probe.InitialDelaySeconds != 0 {
				t.Errorf("%s/%s is not found ready at once: %v", name, container.Name, probe)
			}
		}
	}
}

// D-06.
func TestTheControlPlaneKeepsADefaultOfItsOwn(t *testing.T) {
	objects, _ := installed(t, Options{DefaultInboundPolicy: "deny"})
	for name, deployment := range deploymentsOf(objects) {
		if got := deployment.Spec.Template.Annotations[api.DefaultPolicyAnnotation]; got != string(api.AllUnauthenticated) {
			t.Errorf("%s: the default policy is %q", name, got)
		}
	}
}

// Without a type kubectl sends a patch each time, to a Deployment that stays the
// same; and with surge a role is never without a pod.
func TestRolloutsNeverLeaveARoleWithoutAPod(t *testing.T) {
	objects, _ := installed(t, Options{})
	zero, one := intstr.FromInt32(0), intstr.FromInt32(1)
	want := appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &zero, MaxSurge: &one}}
	for name, deployment := range deploymentsOf(objects) {
		if diff := cmp.Diff(want, deployment.Spec.Strategy); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestRightsAreNarrow(t *testing.T) {
	objects, _ := installed(t, Options{})
	for key, object := range objects {
		var rules []rbacv1.PolicyRule
		cluster := false
		switch role := object.(type) {
		case *rbacv1.Role:
			rules = role.Rules
		case *rbacv1.ClusterRole:
			rules, cluster = role.Rules, true
		}
		for _, rule := range rules {
			for _, list := range [][]string{rule.Verbs, rule.Resources, rule.APIGroups} {
				if slices.Contains(list, "*") {
					t.Errorf("%s grants everything: %v", key, rule)
				}
			}
			secret := slices.Contains(rule.Resources, "secrets")
			if secret && cluster {
				t.Errorf("%s grants secrets of all namespaces: %v", key, rule)
			}
			if secret && len(rule.ResourceNames) == 0 && !slices.Equal(rule.Verbs, []string{"create"}) {
				t.Errorf("%s grants secrets of any name: %v", key, rule)
			}
		}
	}
}

func TestEveryBindingHasItsRoleAndAccount(t *testing.T) {
	objects, _ := installed(t, Options{})
	check := func(key string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		if objects[ref.Kind+"/"+ref.Name] == nil {
			t.Errorf("%s refers to %s %s, which is not installed", key, ref.Kind, ref.Name)
		}
		for _, subject := range subjects {
			if objects[subject.Kind+"/"+subject.Name] == nil || subject.Namespace != values.Namespace {
				t.Errorf("%s is for %v, which is not installed", key, subject)
			}
		}
	}
	for key, object := range objects {
		switch binding := object.(type) {
		case *rbacv1.RoleBinding:
			check(key, binding.RoleRef, binding.Subjects)
		case *rbacv1.ClusterRoleBinding:
			check(key, binding.RoleRef, binding.Subjects)
		case *appsv1.Deployment:
			if objects["ServiceAccount/"+binding.Spec.Template.Spec.ServiceAccountName] == nil {
				t.Errorf("%s runs as %q, which is not installed", key, binding.Spec.Template.Spec.ServiceAccountName)
			}
		}
	}
}

func TestEveryServicePortLeadsToAContainerPort(t *testing.T) {
	objects, _ := installed(t, Options{})
	want := map[string]string{
		"linkerd-identity:8080": "8080", "linkerd-identity-headless:8080": "8080",
		"linkerd-policy:8090": "8090", "linkerd-dst:8086": "8086", "linkerd-dst-headless:8086": "8086",
		"linkerd-policy-validator:443": "9443", "linkerd-proxy-injector:443": "8443",
	}
	got := map[string]string{}
	for _, object := range objects {
		service, ok := object.(*corev1.Service)
		if !ok {
			continue
		}
		for _, deployment := range deploymentsOf(objects) {
			if !selects(service.Spec.Selector, deployment.Spec.Template.Labels) {
				continue
			}
			for _, port := range service.Spec.Ports {
				for _, container := range deployment.Spec.Template.Spec.Containers {
					for _, p := range container.Ports {
						if port.TargetPort == intstr.FromString(p.Name) {
							got[fmt.Sprintf("%s:%d", service.Name, port.Port)] += fmt.Sprint(p.ContainerPort)
						}
					}
				}
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// DOC-35: a new default is applied to a running cluster; the roles that act on it
// start again and nothing else does.
func TestANewDefaultPolicyStartsTheInjectorAndThePolicyRoleAgain(t *testing.T) {
	before, _ := installed(t, Options{})
	for _, policy := range api.PolicyNames()[1:] {
		after, _ := installed(t, Options{DefaultInboundPolicy: string(policy)})
		var changed []string
		for key := range before {
			if cmp.Diff(before[key], after[key]) != "" {
				changed = append(changed, key)
			}
		}
		slices.Sort(changed)
		want := []string{"ConfigMap/linkerd-config", "Deployment/linkerd-destination", "Deployment/linkerd-proxy-injector"}
		if diff := cmp.Diff(want, changed); diff != "" {
			t.Errorf("%s: -want +got\n%s", policy, diff)
		}
		read, err := values.Parse([]byte(after["ConfigMap/linkerd-config"].(*corev1.ConfigMap).Data[values.Key]))
		if err != nil || read.DefaultInboundPolicy != policy {
			t.Errorf("%s: the roles read %q (%v)", policy, read.DefaultInboundPolicy, err)
		}
	}
}

func TestHighAvailabilityRequiresTheWebhooks(t *testing.T) {
	for ha, want := range map[bool]struct {
		replicas int32
		failure  admissionregistrationv1.FailurePolicyType
	}{false: {1, admissionregistrationv1.Ignore}, true: {3, admissionregistrationv1.Fail}} {
		objects, _ := installed(t, Options{HA: ha})
		for name, deployment := range deploymentsOf(objects) {
			if *deployment.Spec.Replicas != want.replicas {
				t.Errorf("HA %v: %s has %d replicas", ha, name, *deployment.Spec.Replicas)
			}
		}
		mutating := objects["MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config"].(*admissionregistrationv1.MutatingWebhookConfiguration)
		validating := objects["ValidatingWebhookConfiguration/linkerd-policy-validator-webhook-config"].(*admissionregistrationv1.ValidatingWebhookConfiguration)
		if got := *mutating.Webhooks[0].FailurePolicy; got != want.failure {
			t.Errorf("HA %v: the injector's failure policy is %s", ha, got)
		}
		if got := *validating.Webhooks[0].FailurePolicy; got != want.failure {
			t.Errorf("HA %v: the validator's failure policy is %s", ha, got)
		}
		// With Fail, a control plane that needed itself could never start.
		excluded := mutating.Webhooks[0].NamespaceSelector.MatchExpressions[1]
		if diff := cmp.Diff(metav1.LabelSelectorRequirement{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", "linkerd"}}, excluded); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for complaint, o := range map[string]Options{
		`default inbound policy "allow-all"`: {DefaultInboundPolicy: "allow-all"},
		`cluster network "10.0.0.0"`:         {ClusterNetworks: []string{"10.0.0.0"}},
		`probe network "x"`:                  {ProbeNetworks: []string{"x"}},
		`dialect "x"`:                        {Dialect: "x"},
		`proxy exemption "x"`:                {ProxyExemption: "x"},
		`proxy image "meshproof/agent:a b"`:  {ImageTag: "a b"},
		`proxy image "A/B"`:                  {ProxyImage: "A/B"},
		`controller image "a b"`:             {ControllerImage: "a b"},
		`image pull policy "always"`:         {ImagePullPolicy: "always"},
	} {
		if _, err := Install(o); err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%+v: got %v, want …%s…", o, err, complaint)
		}
	}
}

// The control plane's image is in its pods, the proxy's in the configuration that
// the injector reads.
func TestImagesAreThoseAskedFor(t *testing.T) {
	const digest = "sha256:0123456789012345678901234567890101234567890123456789012345678901"
	for name, row := range map[string]struct {
		options           Options
		controller, proxy string
		version           string
		policy            corev1.PullPolicy
	}{
		"nothing asked": {Options{}, "meshproof/agent:dev", "meshproof/agent:dev", "dev", corev1.PullIfNotPresent},
		"a registry": {Options{Registry: "registry.example:5000/", ImageTag: "v1"},
			"registry.example:5000/meshproof/agent:v1", "registry.example:5000/meshproof/agent:v1", "v1", corev1.PullIfNotPresent},
		"another proxy": {Options{ProxyImage: "mine/proxy:v2"}, "meshproof/agent:dev", "mine/proxy:v2", "v2", corev1.PullIfNotPresent},
		"another control plane": {Options{ControllerImage: "mine/controller:v2", ImagePullPolicy: "Never"},
			"mine/controller:v2", "meshproof/agent:dev", "dev", corev1.PullNever},
		"others from the registry": {Options{ProxyImage: "mine/proxy@" + digest, ControllerImage: "mine/controller", Registry: "registry.example"},
			"registry.example/mine/controller", "registry.example/mine/proxy@" + digest, digest, corev1.PullIfNotPresent},
		"one of another registry": {Options{ProxyImage: "other.example/proxy:v2", Registry: "registry.example"},
			"registry.example/meshproof/agent:dev", "registry.example/proxy:v2", "v2", corev1.PullIfNotPresent},
	} {
		t.Run(name, func(t *testing.T) {
			objects, _ := installed(t, row.options)
			for name, deployment := range deploymentsOf(objects) {
				for _, container := range deployment.Spec.Template.Spec.Containers {
					if container.Image != row.controller || container.ImagePullPolicy != row.policy {
						t.Errorf("%s/%s runs %s, pulled %s, want %s, %s", name, container.Name, container.Image, container.ImagePullPolicy, row.controller, row.policy)
					}
				}
			}
			v, err := values.Parse([]byte(objects["ConfigMap/linkerd-config"].(*corev1.ConfigMap).Data[values.Key]))
			if err != nil {
				t.Fatal(err)
			}
			if v.ProxyImage != row.proxy || v.ControllerImage != row.controller || v.ProxyVersion != row.version || v.ImagePullPolicy != row.policy {
				t.Errorf("configured are %s, %s, version %s, pulled %s", v.ProxyImage, v.ControllerImage, v.ProxyVersion, v.ImagePullPolicy)
			}
		})
	}
}

func TestFactsAndUninstallKnowWhatIsInstalled(t *testing.T) {
	objects, order := installed(t, Options{})
	resources := map[string]string{ // of kinds
		"CustomResourceDefinition": "customresourcedefinitions", "Deployment": "deployments", "Namespace": "namespaces",
		"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
		"MutatingWebhookConfiguration": "mutatingwebhookconfigurations", "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
	}
	there := map[string]bool{"configmaps/linkerd-identity-trust-roots": true} // made by the identity role
	for _, key := range order {
		kind, name, _ := strings.Cut(key, "/")
		there[resources[kind]+"/"+name] = true
	}
	deleted := map[string]bool{}
	for _, object := range Uninstall() {
		deleted[object.Resource+"/"+object.Name] = true
		if !there[object.Resource+"/"+object.Name] {
			t.Errorf("uninstall deletes %v, which is not installed", object)
		}
	}
	for _, fact := range WaitReady() {
		if !there[fact.Object.Resource+"/"+fact.Object.Name] {
			t.Errorf("waiting for %v, which is not installed", fact)
		}
	}
	for key, object := range objects {
		kind, name, _ := strings.Cut(key, "/")
		if meta := object.(metav1.Object); meta.GetNamespace() == "" && !deleted[resources[kind]+"/"+name] {
			t.Errorf("uninstall leaves %s behind", key)
		}
	}
}
