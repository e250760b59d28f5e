package clusters

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/e2e-framework/klient/decoder"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/klient/wait/conditions"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"github.com/meshproof/meshproof/workloads/images"
)

// gadgets is a definition that nobody else has.
const gadgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.contract.meshproof.dev}
spec:
  group: contract.meshproof.dev
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, listKind: GadgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, required: [size], properties: {size: {type: integer}}}}}}
`

func gadget(namespace, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "contract.meshproof.dev/v1", "kind": "Gadget",
		"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec}}
}

func TestDefinitionsAcceptObjects(t *testing.T) {
	needs(t)
	feature := features.New("definitions").
		Setup(func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			client := config.Client().Resources()
			if err := decoder.DecodeEach(ctx, strings.NewReader(gadgets), decoder.CreateHandler(client)); err != nil {
				t.Fatal(err)
			}
			return ctx
		}).
		Assess("a definition is established", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			definition := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "gadgets.contract.meshproof.dev"}}
			err := soon(ctx, conditions.New(config.Client().Resources()).ResourceMatch(definition, func(object k8s.Object) bool {
				for _, c := range object.(*apiextensionsv1.CustomResourceDefinition).Status.Conditions {
					if c.Type == apiextensionsv1.Established {
						return c.Status == apiextensionsv1.ConditionTrue
					}
				}
				return false
			}))
			if err != nil {
				t.Fatal(err)
			}
			return ctx
		}).
		Assess("an object of it is accepted", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			err := soon(ctx, func(ctx context.Context) (bool, error) { // an API server serves it a moment later
				err := config.Client().Resources().Create(ctx, gadget(config.Namespace(), "good", map[string]any{"size": int64(1)}))
				if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
					return false, nil
				}
				return err == nil, err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ctx
		}).
		Assess("an object that does not fit its schema is refused", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			if err := config.Client().Resources().Create(ctx, gadget(config.Namespace(), "bad", map[string]any{})); !apierrors.IsInvalid(err) {
				t.Errorf("error %v, want one that says invalid", err)
			}
			return ctx
		}).
		Teardown(func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			if err := decoder.DecodeEach(ctx, strings.NewReader(gadgets), decoder.DeleteHandler(config.Client().Resources())); err != nil {
				t.Error(err)
			}
			return ctx
		}).Feature()
	suite.env.Test(t, feature)
}

func TestPodSecurityIsEnforced(t *testing.T) {
	needs(t)
	namespace := envconf.RandomName("restricted", 16)
	feature := features.New("pod security").
		Setup(func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
			if err := config.Client().Resources().Create(ctx, ns); err != nil {
				t.Fatal(err)
			}
			// Pods need it, and it comes a moment after the namespace.
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}}
			if err := soon(ctx, conditions.New(config.Client().Resources()).ResourceMatch(account, func(k8s.Object) bool { return true })); err != nil {
				t.Fatal(err)
			}
			return ctx
		}).
		Assess("a pod with the capability to change its network is refused", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			p := pod(namespace, "privileged", images.Agent, "echo")
			p.Spec.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
			err := config.Client().Resources().Create(ctx, p)
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "PodSecurity") {
				t.Errorf("error %v, want PodSecurity's refusal", err)
			}
			return ctx
		}).
		Assess("a pod that asks for nothing is admitted", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			if err := config.Client().Resources().Create(ctx, pod(namespace, "plain", images.Agent, "echo")); err != nil {
				t.Error(err)
			}
			return ctx
		}).
		Teardown(func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			if err := removed(ctx, config, namespace); err != nil {
				t.Error(err)
			}
			return ctx
		}).Feature()
	suite.env.Test(t, feature)
}
