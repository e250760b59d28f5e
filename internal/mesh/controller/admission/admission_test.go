package admission

import (
	"context"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// ask asks about a kind and an object in YAML.
func ask(t *testing.T, operation admissionv1.Operation, group, kind, object string) *admissionv1.AdmissionResponse {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	if object == "" {
		raw = nil
	}
	response, err := Handle(context.Background(), &admissionv1.AdmissionRequest{
		Operation: operation, Kind: metav1.GroupVersionKind{Group: group, Version: "v1beta1", Kind: kind}, Object: runtime.RawExtension{Raw: raw},
	})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// judged creates an object and compares what is complained about; complaints are
// fields in the order of the message, none when the object is admitted.
func judged(t *testing.T, group, kind, spec string, complaints ...string) {
	t.Helper()
	response := ask(t, admissionv1.Create, group, kind, "{metadata: {namespace: ns}, spec: "+spec+"}")
	var got []string
	if !response.Allowed {
		for text := range strings.SplitSeq(response.Result.Message, "; ") {
			field, _, ok := strings.Cut(text, ": ")
			if !ok {
				t.Errorf("%s: %q names no field", spec, text)
			}
			got = append(got, field)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(complaints) {
		t.Errorf("%s %s: complaints about %v, want %v", kind, spec, got, complaints)
	}
}

func TestWhatIsNoSpecIsRefused(t *testing.T) {
	for _, kind := range []string{api.ServerKind, api.ServerAuthorizationKind, api.AuthorizationPolicyKind, api.MeshTLSAuthenticationKind, api.NetworkAuthenticationKind, api.HTTPLocalRateLimitPolicyKind} {
		for _, object := range []string{"", "{}", "spec:", "spec: text", "spec: {port: [], server: [], targetRef: [], identities: {}, networks: {}}", "[]"} {
			if response := ask(t, admissionv1.Create, api.Group, kind, object); response.Allowed {
				t.Errorf("%s %q is admitted", kind, object)
			}
		}
	}
}

func TestKindsAreComparedWithoutCase(t *testing.T) {
	const server = "spec: {podSelector: {}, port: 1}"
	for _, row := range []struct {
		group, kind string
		allowed     bool
	}{
		{"policy.linkerd.io", "Server", true}, {"Policy.Linkerd.IO", "SERVER", true},
		{"policy.linkerd.io", "EgressNetwork", false}, {"other", "Server", false}, {"", "", false}, {"gateway.networking.k8s.io", "Server", false},
	} {
		if got := ask(t, admissionv1.Create, row.group, row.kind, server).Allowed; got != row.allowed {
			t.Errorf("%s/%s: allowed %v", row.group, row.kind, got)
		}
	}
}

func TestOnlyCreationAndUpdateAreJudged(t *testing.T) {
	for operation, allowed := range map[admissionv1.Operation]bool{
		admissionv1.Create: false, admissionv1.Update: false, admissionv1.Delete: true, admissionv1.Connect: true,
	} {
		if got := ask(t, operation, api.Group, "Server", "spec: {}").Allowed; got != allowed {
			t.Errorf("%s: allowed %v", operation, got)
		}
	}
}
