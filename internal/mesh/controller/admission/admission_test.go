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

// review asks about a kind and an object in YAML.
func review(t *testing.T, operation admissionv1.Operation, group, kind, object string) *admissionv1.AdmissionResponse {
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

// judge creates an object and compares what is complained about; complaints are
// fields in the order of the message, none when the object is admitted.
func judge(t *testing.T, kind, spec string, complaints ...string) {
	t.Helper()
	response := review(t, admissionv1.Create, api.Group, kind, "spec: "+spec)
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

func TestServersAreRefusedFieldByField(t *testing.T) {
	for _, policy := range api.PolicyNames() {
		judge(t, "Server", fmt.Sprintf(`{podSelector: {}, port: 1, accessPolicy: %s}`, policy))
	}
	for _, protocol := range api.ProxyProtocols() {
		judge(t, "Server", fmt.Sprintf(`{podSelector: {}, port: http, proxyProtocol: %s}`, protocol))
	}
	for _, policy := range []string{"Deny", "allow", `""`} {
		judge(t, "Server", fmt.Sprintf(`{podSelector: {}, port: 1, accessPolicy: %s}`, policy), "spec.accessPolicy")
	}
	for _, protocol := range []string{"http/1", "HTTP1", "grpc", "tls", `""`} {
		judge(t, "Server", fmt.Sprintf(`{podSelector: {}, port: 1, proxyProtocol: %s}`, protocol), "spec.proxyProtocol")
	}
	judge(t, "Server", `{externalWorkloadSelector: {}, port: 1}`)
	judge(t, "Server", `{port: 1}`, "spec")
	judge(t, "Server", `{podSelector: {}, port: 0}`, "spec.port")
	judge(t, "Server", `{podSelector: {}, port: 65536}`, "spec.port")
	judge(t, "Server", `{podSelector: {}}`, "spec.port")
	judge(t, "Server", `{podSelector: [], port: 1}`, "spec")
	judge(t, "Server", `{podSelector: {}, port: 0, proxyProtocol: x, accessPolicy: z}`, "spec.port", "spec.proxyProtocol", "spec.accessPolicy")
}

func TestServerAuthorizationsAreRefusedFieldByField(t *testing.T) {
	client := func(client string, complaints ...string) {
		t.Helper()
		judge(t, "ServerAuthorization", `{server: {name: web}, client: `+client+`}`, complaints...)
	}
	client(`{unauthenticated: true}`)
	client(`{}`)
	client(`{meshTLS: {}}`)
	client(`{unauthenticated: false, meshTLS: {unauthenticatedTLS: true}}`)
	client(`{meshTLS: {unauthenticatedTLS: false, identities: ["*"], serviceAccounts: [{name: a}]}}`)
	client(`{unauthenticated: true, meshTLS: {}}`, "spec.client.unauthenticated")
	client(`{meshTLS: {unauthenticatedTLS: true, identities: ["*"]}}`, "spec.client.meshTLS.unauthenticatedTLS")
	client(`{meshTLS: {unauthenticatedTLS: true, serviceAccounts: [{name: a}]}}`, "spec.client.meshTLS.unauthenticatedTLS")
	client(`{meshTLS: {serviceAccounts: [{namespace: a}]}}`, "spec.client.meshTLS.serviceAccounts[0].name")
	judge(t, "ServerAuthorization", `{server: {selector: {}}, client: {}}`)
	judge(t, "ServerAuthorization", `{server: {}, client: {}}`, "spec.server")
	judge(t, "ServerAuthorization", `{server: {name: a, selector: {}}, client: {}}`, "spec.server")

	networks := func(networks string, complaints ...string) {
		t.Helper()
		client(`{unauthenticated: true, networks: `+networks+`}`, complaints...)
	}
	const cidr, except = "spec.client.networks[0].cidr", "spec.client.networks[0].except[0]"
	networks(`[]`)
	networks(`[{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.3.4]}, {cidr: "fd00::/8", except: ["fd00::1"]}, {cidr: 10.0.0.1}]`)
	networks(`[{cidr: 10.0.0.0/33}]`, cidr)
	networks(`[{cidr: 10.0.0}]`, cidr)
	networks(`[{cidr: ""}]`, cidr)
	networks(`[{except: [10.0.0.0/8]}]`, cidr)
	networks(`[{cidr: 10.0.0.0/8, except: [x]}]`, except)
	networks(`[{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]`, except)
	networks(`[{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]`, except)
	networks(`[{cidr: 10.0.0.1, except: [10.0.0.1]}]`, except)
	networks(`[{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]`, except)
	networks(`[{cidr: 10.0.0.0/8, except: ["fd00::1"]}]`, except)
	networks(`[{cidr: "::/0", except: [10.0.0.0/8]}]`, except)
	networks(`[{cidr: x}, {cidr: z}]`, cidr, "spec.client.networks[1].cidr")
}

func TestWhatIsNoSpecIsRefused(t *testing.T) {
	for _, kind := range []string{"Server", "ServerAuthorization"} {
		for _, object := range []string{"", "{}", "spec:", "spec: text", "spec: {port: [], server: []}", "[]"} {
			if response := review(t, admissionv1.Create, api.Group, kind, object); response.Allowed {
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
		{"policy.linkerd.io", "HTTPRoute", false}, {"other", "Server", false}, {"", "", false},
	} {
		if got := review(t, admissionv1.Create, row.group, row.kind, server).Allowed; got != row.allowed {
			t.Errorf("%s/%s: allowed %v", row.group, row.kind, got)
		}
	}
}

func TestOnlyCreationAndUpdateAreJudged(t *testing.T) {
	for operation, allowed := range map[admissionv1.Operation]bool{
		admissionv1.Create: false, admissionv1.Update: false, admissionv1.Delete: true, admissionv1.Connect: true,
	} {
		if got := review(t, operation, api.Group, "Server", "spec: {}").Allowed; got != allowed {
			t.Errorf("%s: allowed %v", operation, got)
		}
	}
}
