package health

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	discovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func roots(t *testing.T, from, to time.Time) *corev1.ConfigMap {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: trustRoots},
		Data: map[string]string{"ca-bundle.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}}
}

func healthy(t *testing.T) map[string]runtime.Object {
	configured := values.Default()
	text, err := configured.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	deployment := func(name string) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: name},
			Spec:   appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: configured.ControllerImage}}}}},
			Status: appsv1.DeploymentStatus{AvailableReplicas: 1, UpdatedReplicas: 1}}
	}
	holder, seconds, renewed := "linkerd-destination-1", int32(30), metav1.NewMicroTime(time.Now())
	call := admissionv1.WebhookClientConfig{CABundle: []byte("ca")}
	return map[string]runtime.Object{
		"identity":    deployment("linkerd-identity"),
		"destination": deployment("linkerd-destination"),
		"injector":    deployment("linkerd-proxy-injector"),
		"roots":       roots(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)),
		"mutating": &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-proxy-injector-webhook-config"},
			Webhooks: []admissionv1.MutatingWebhook{{ClientConfig: call}}},
		"validating": &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-policy-validator-webhook-config"},
			Webhooks: []admissionv1.ValidatingWebhook{{ClientConfig: call}}},
		"configuration": &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: values.ConfigMapName}, Data: map[string]string{values.Key: string(text)}},
		"lease": &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: leaseName},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &renewed}},
		"controller": &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-destination-1", Labels: map[string]string{"linkerd.io/control-plane-component": "destination"}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		"pod": &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: "web", Labels: map[string]string{controlPlaneLabel: "linkerd"},
			Annotations: map[string]string{versionAnnotation: configured.ProxyVersion}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: proxyContainer, Ready: true}}}},
	}
}

// loopback is what pods answer, by POD/PATH?QUERY.
type loopback map[string]string

func answers() loopback {
	return loopback{
		"linkerd-destination-1/observed?timeout=1s":                     `{"observed": {"servers": "5", "httproutes": "6"}}`,
		"linkerd-destination-1/observed?ns=emojivoto&pod=web&port=8080": `{"hash": "aa"}`,
		"linkerd-destination-1/observed?ns=emojivoto&pod=web&port=4191": `{"hash": "bb"}`,
		"web/policy?": `{"ports": {"4191": {"hash": "bb", "source": "controller"}, "8080": {"hash": "aa", "source": "controller"}}}`,
	}
}

func (l loopback) ask(_ context.Context, pod types.NamespacedName, _ int, path string, query url.Values) (int, []byte, error) {
	answer, ok := l[pod.Name+path+"?"+query.Encode()]
	if !ok {
		return 504, []byte(`{"error": "not in time"}`), nil
	}
	return 200, []byte(answer), nil
}

// fixture is a mesh to look at.
type fixture struct {
	objects  map[string]runtime.Object
	absent   string // a resource that is not served
	loopback loopback
	refused  bool
}

func run(t *testing.T, f *fixture) []Check {
	t.Helper()
	objects := f.objects
	var list []runtime.Object
	for _, object := range objects {
		if object != nil {
			list = append(list, object)
		}
	}
	client := fake.NewClientset(list...)
	var lists []*metav1.APIResourceList
	for _, resource := range api.Resources() {
		if resource.Resource == f.absent {
			continue
		}
		lists = append(lists, &metav1.APIResourceList{GroupVersion: resource.GroupVersion().String()})
		for _, list := range lists { // a version may have several
			if list.GroupVersion == resource.GroupVersion().String() {
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: resource.Resource})
			}
		}
	}
	client.Discovery().(*discovery.FakeDiscovery).Resources = lists
	checks, err := Run(context.Background(), client, Options{Proxy: true, Namespace: "emojivoto", Ask: f.loopback.ask,
		Refused: func(context.Context) (bool, error) { return f.refused, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

func TestACompleteMeshIsHealthy(t *testing.T) {
	checks := run(t, &fixture{objects: healthy(t), loopback: answers(), refused: true})
	if !Healthy(checks) {
		t.Errorf("checks = %+v, want all to hold", checks)
	}
	for _, c := range checks {
		if c.Remedy != "" {
			t.Errorf("%s holds and has a remedy", c.Name)
		}
	}
}

func TestWhatIsMissingIsNamedWithItsRemedy(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*fixture)
		want   string
	}{
		{"a kind is not served", func(f *fixture) { f.absent = "servers" }, "servers are served"},
		{"a newer kind is not served", func(f *fixture) { f.absent = "httplocalratelimitpolicies" }, "httplocalratelimitpolicies are served"},
		{"no configuration", func(f *fixture) { f.objects["configuration"] = nil }, "the mesh's configuration can be read"},
		{"a configuration of another version", func(f *fixture) {
			f.objects["configuration"].(*corev1.ConfigMap).Data[values.Key] = "future: true"
		}, "the mesh's configuration can be read"},
		{"a role of another version", func(f *fixture) {
			f.objects["identity"].(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "old"
		}, "the control plane runs the version"},
		{"nobody to write statuses", func(f *fixture) { f.objects["lease"] = nil }, "a policy controller writes the status"},
		{"a lease that was given back", func(f *fixture) { f.objects["lease"].(*coordinationv1.Lease).Spec.HolderIdentity = nil }, "a policy controller writes the status"},
		{"a lease that has ended", func(f *fixture) {
			long := metav1.NewMicroTime(time.Now().Add(-time.Hour))
			f.objects["lease"].(*coordinationv1.Lease).Spec.RenewTime = &long
		}, "a policy controller writes the status"},
		{"a controller that has not read", func(f *fixture) {
			f.loopback["linkerd-destination-1/observed?timeout=1s"] = `{"observed": {"servers": "0"}}`
		}, "linkerd-destination-1 has read every policy"},
		{"a controller that does not answer", func(f *fixture) { delete(f.loopback, "linkerd-destination-1/observed?timeout=1s") }, "linkerd-destination-1 has read every policy"},
		{"a validator that nobody asks", func(f *fixture) { f.refused = false }, "the policy validator refuses"},
		{"a proxy that enforces something else", func(f *fixture) {
			f.loopback["linkerd-destination-1/observed?ns=emojivoto&pod=web&port=8080"] = `{"hash": "cc"}`
		}, "the proxy of emojivoto/web enforces what is served"},
		{"a proxy that was told nothing", func(f *fixture) {
			f.loopback["web/policy?"] = `{"ports": {"8080": {"hash": "", "source": "none"}}}`
		}, "the proxy of emojivoto/web enforces what is served"},
		{"a proxy that watches nothing", func(f *fixture) { f.loopback["web/policy?"] = `{"ports": {}}` }, "the proxy of emojivoto/web enforces what is served"},
		{"a proxy of another version", func(f *fixture) {
			f.objects["pod"].(*corev1.Pod).Annotations[versionAnnotation] = "v0"
		}, "the proxy of emojivoto/web is of the configured version"},
		{"no identity service", func(f *fixture) { f.objects["identity"] = nil }, "deployment linkerd-identity is available"},
		{"an unavailable controller", func(f *fixture) {
			f.objects["destination"].(*appsv1.Deployment).Status.AvailableReplicas = 0
		}, "deployment linkerd-destination is available"},
		{"expired roots", func(f *fixture) {
			f.objects["roots"] = roots(t, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		}, "the trust roots are valid now"},
		{"an injector without CA bundle", func(f *fixture) {
			f.objects["mutating"].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].ClientConfig.CABundle = nil
		}, "the proxy injector can be called"},
		{"no validator", func(f *fixture) { f.objects["validating"] = nil }, "the policy validator can be called"},
		{"a proxy that is not ready", func(f *fixture) {
			f.objects["pod"].(*corev1.Pod).Status.ContainerStatuses[0].Ready = false
		}, "the proxy of emojivoto/web is ready"},
		{"a pod that wants a proxy and has none", func(f *fixture) {
			f.objects["plain"] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: "plain", Annotations: map[string]string{"linkerd.io/inject": "enabled"}}}
		}, "the proxy of emojivoto/plain is ready"},
		{"no meshed pod", func(f *fixture) { f.objects["pod"] = nil }, "meshed pods exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fixture{objects: healthy(t), loopback: answers(), refused: true}
			test.change(f)
			var problems []string
			for _, c := range run(t, f) {
				if c.Problem != "" {
					problems = append(problems, c.Name)
					if c.Remedy == "" {
						t.Errorf("%q has no remedy", c.Name)
					}
				}
			}
			if len(problems) != 1 || !strings.HasPrefix(problems[0], test.want) {
				t.Errorf("problems = %q, want only %q", problems, test.want)
			}
		})
	}
}
