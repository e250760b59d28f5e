package admission

import (
	"fmt"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestServersAreRefusedFieldByField(t *testing.T) {
	for _, policy := range api.PolicyNames() {
		judged(t, api.Group, "Server", fmt.Sprintf(`{podSelector: {}, port: 1, accessPolicy: %s}`, policy))
	}
	for _, protocol := range api.ProxyProtocols() {
		judged(t, api.Group, "Server", fmt.Sprintf(`{podSelector: {}, port: http, proxyProtocol: %s}`, protocol))
	}
	for _, policy := range []string{"Deny", "allow", `""`} {
		judged(t, api.Group, "Server", fmt.Sprintf(`{podSelector: {}, port: 1, accessPolicy: %s}`, policy), "spec.accessPolicy")
	}
	for _, protocol := range []string{"http/1", "HTTP1", "grpc", "tls", `""`} {
		judged(t, api.Group, "Server", fmt.Sprintf(`{podSelector: {}, port: 1, proxyProtocol: %s}`, protocol), "spec.proxyProtocol")
	}
	judged(t, api.Group, "Server", `{externalWorkloadSelector: {}, port: 1}`)
	judged(t, api.Group, "Server", `{port: 1}`, "spec")
	judged(t, api.Group, "Server", `{podSelector: {}, port: 0}`, "spec.port")
	judged(t, api.Group, "Server", `{podSelector: {}, port: 65536}`, "spec.port")
	judged(t, api.Group, "Server", `{podSelector: {}}`, "spec.port")
	judged(t, api.Group, "Server", `{podSelector: [], port: 1}`, "spec")
	judged(t, api.Group, "Server", `{podSelector: {}, port: 0, proxyProtocol: x, accessPolicy: z}`, "spec.port", "spec.proxyProtocol", "spec.accessPolicy")
}

func TestServerAuthorizationsAreRefusedFieldByField(t *testing.T) {
	client := func(client string, complaints ...string) {
		t.Helper()
		judged(t, api.Group, "ServerAuthorization", `{server: {name: web}, client: `+client+`}`, complaints...)
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
	judged(t, api.Group, "ServerAuthorization", `{server: {selector: {}}, client: {}}`)
	judged(t, api.Group, "ServerAuthorization", `{server: {}, client: {}}`, "spec.server")
	judged(t, api.Group, "ServerAuthorization", `{server: {name: a, selector: {}}, client: {}}`, "spec.server")

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
