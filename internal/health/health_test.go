package health

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	discovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
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
	deployment := func(name string) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: name},
			Status: appsv1.DeploymentStatus{AvailableReplicas: 1, UpdatedReplicas: 1}}
	}
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
		"pod": &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: "web", Labels: map[string]string{controlPlaneLabel: "linkerd"}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: proxyContainer, Ready: true}}}},
	}
}

func run(t *testing.T, objects map[string]runtime.Object, served ...string) []Check {
	t.Helper()
	var list []runtime.Object
	for _, object := range objects {
		if object != nil {
			list = append(list, object)
		}
	}
	client := fake.NewClientset(list...)
	var kinds []metav1.APIResource
	for _, kind := range served {
		kinds = append(kinds, metav1.APIResource{Kind: kind})
	}
	client.Discovery().(*discovery.FakeDiscovery).Resources = []*metav1.APIResourceList{{GroupVersion: policyGroupVersion, APIResources: kinds}}
	checks, err := Run(context.Background(), client, Options{Proxy: true, Namespace: "emojivoto"})
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

func TestACompleteMeshIsHealthy(t *testing.T) {
	if checks := run(t, healthy(t), "Server", "ServerAuthorization"); !Healthy(checks) {
		t.Errorf("checks = %+v, want all to hold", checks)
	}
}

func TestWhatIsMissingIsNamedWithItsRemedy(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(map[string]runtime.Object)
		served []string
		want   string
	}{
		{"a kind is not served", func(map[string]runtime.Object) {}, []string{"Server"}, "Server and ServerAuthorization are served"},
		{"no identity service", func(o map[string]runtime.Object) { o["identity"] = nil }, nil, "deployment linkerd-identity is available"},
		{"an unavailable controller", func(o map[string]runtime.Object) {
			o["destination"].(*appsv1.Deployment).Status.AvailableReplicas = 0
		}, nil, "deployment linkerd-destination is available"},
		{"expired roots", func(o map[string]runtime.Object) {
			o["roots"] = roots(t, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		}, nil, "the trust roots are valid now"},
		{"an injector without CA bundle", func(o map[string]runtime.Object) {
			o["mutating"].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].ClientConfig.CABundle = nil
		}, nil, "the proxy injector can be called"},
		{"no validator", func(o map[string]runtime.Object) { o["validating"] = nil }, nil, "the policy validator can be called"},
		{"a proxy that is not ready", func(o map[string]runtime.Object) {
			o["pod"].(*corev1.Pod).Status.ContainerStatuses[0].Ready = false
		}, nil, "the proxy of emojivoto/web is ready"},
		{"a pod that wants a proxy and has none", func(o map[string]runtime.Object) {
			o["plain"] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: "plain", Annotations: map[string]string{"linkerd.io/inject": "enabled"}}}
		}, nil, "the proxy of emojivoto/plain is ready"},
		{"no meshed pod", func(o map[string]runtime.Object) { o["pod"] = nil }, nil, "meshed pods exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := healthy(t)
			test.change(objects)
			served := test.served
			if served == nil {
				served = []string{"Server", "ServerAuthorization"}
			}
			var problems []string
			for _, c := range run(t, objects, served...) {
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
