package proxy

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// injected is what the injector writes.
func injected() map[string]string {
	return map[string]string{
		"LINKERD2_PROXY_INBOUND_LISTEN_ADDR":                      "0.0.0.0:4143",
		"LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR":                     "127.0.0.1:4140",
		"LINKERD2_PROXY_ADMIN_LISTEN_ADDR":                        "0.0.0.0:4191",
		"LINKERD2_PROXY_CONTROL_LISTEN_ADDR":                      "0.0.0.0:4190",
		"LINKERD2_PROXY_INBOUND_DEFAULT_POLICY":                   "all-unauthenticated",
		"LINKERD2_PROXY_INBOUND_PORTS":                            "8080,9090",
		"LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION": "25,4444-4446",
		"LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT":                   "10s",
		"LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT":           "5s",
		"LINKERD2_PROXY_INBOUND_IPS":                              "10.244.0.7",
		"LINKERD2_PROXY_POLICY_SVC_ADDR":                          "linkerd-policy.linkerd.svc.cluster.local:8090",
		"LINKERD2_PROXY_POLICY_SVC_NAME":                          "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local",
		"LINKERD2_PROXY_POLICY_WORKLOAD":                          `{"ns":"apps","pod":"app-0"}`,
		"LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS":                  "10.0.0.0/8,fd00::/8",
		"LINKERD2_PROXY_DESTINATION_SVC_ADDR":                     "linkerd-dst-headless.linkerd.svc.cluster.local:8086",
		"LINKERD2_PROXY_DESTINATION_SVC_NAME":                     "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local",
		"LINKERD2_PROXY_DESTINATION_CONTEXT":                      `{"ns":"apps","nodeName":"n","pod":"app-0"}`,
		"LINKERD2_PROXY_IDENTITY_SVC_ADDR":                        "linkerd-identity-headless.linkerd.svc.cluster.local:8080",
		"LINKERD2_PROXY_IDENTITY_SVC_NAME":                        "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local",
		"LINKERD2_PROXY_IDENTITY_DIR":                             "/var/run/linkerd/identity/end-entity",
		"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS":                   "-----BEGIN CERTIFICATE-----\n...",
		"LINKERD2_PROXY_IDENTITY_TOKEN_FILE":                      "/var/run/secrets/tokens/linkerd-identity-token",
		"LINKERD2_PROXY_IDENTITY_LOCAL_NAME":                      "default.apps.serviceaccount.identity.linkerd.cluster.local",
	}
}

func read(env map[string]string) (Config, error) {
	return ReadConfig(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestInjectedEnvironmentIsRead(t *testing.T) {
	got, err := read(injected())
	if err != nil {
		t.Fatal(err)
	}
	env := injected()
	want := Config{
		Inbound: netip.MustParseAddrPort("0.0.0.0:4143"), Outbound: netip.MustParseAddrPort("127.0.0.1:4140"),
		Admin: netip.MustParseAddrPort("0.0.0.0:4191"), Control: netip.MustParseAddrPort("0.0.0.0:4190"), Observe: netip.MustParseAddrPort("127.0.0.1:4192"),
		DefaultPolicy: "all-unauthenticated", Ports: []uint16{8080, 9090}, OpaquePorts: []uint16{25, 4444, 4445, 4446}, DetectTimeout: 10 * time.Second, PolicyIdle: 5 * time.Second,
		IPs: []netip.Addr{netip.MustParseAddr("10.244.0.7")}, Workload: `{"ns":"apps","pod":"app-0"}`,
		PolicyAddr: env["LINKERD2_PROXY_POLICY_SVC_ADDR"], PolicyName: env["LINKERD2_PROXY_POLICY_SVC_NAME"],
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		DestinationAddr: env["LINKERD2_PROXY_DESTINATION_SVC_ADDR"], DestinationName: env["LINKERD2_PROXY_DESTINATION_SVC_NAME"], DestinationContext: env["LINKERD2_PROXY_DESTINATION_CONTEXT"],
		IdentityAddr: env["LINKERD2_PROXY_IDENTITY_SVC_ADDR"], IdentityName: env["LINKERD2_PROXY_IDENTITY_SVC_NAME"], IdentityDir: env["LINKERD2_PROXY_IDENTITY_DIR"],
		TokenFile: env["LINKERD2_PROXY_IDENTITY_TOKEN_FILE"], LocalName: env["LINKERD2_PROXY_IDENTITY_LOCAL_NAME"], TrustAnchors: env["LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"],
		DialectName: "documented",
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

func TestEachBadValueIsNamedOnce(t *testing.T) {
	for name, value := range map[string]string{
		"LINKERD2_PROXY_INBOUND_LISTEN_ADDR":                      "4143",
		"LINKERD2_PROXY_INBOUND_DEFAULT_POLICY":                   "Deny",
		"LINKERD2_PROXY_INBOUND_PORTS":                            "8080,http",
		"LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION": "9-8",
		"LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT":                   "10",
		"LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT":           "soon",
		"LINKERD2_PROXY_INBOUND_IPS":                              "10.0.0",
		"LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT":                    "-1",
		"LINKERD2_PROXY_POLICY_SVC_ADDR":                          "",
		"LINKERD2_PROXY_POLICY_SVC_NAME":                          "",
		"LINKERD2_PROXY_POLICY_WORKLOAD":                          `{"ns":"apps"}`,
		"LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS":                  "10.0.0.0/33",
		"LINKERD2_PROXY_DESTINATION_SVC_ADDR":                     "dst:http",
		"LINKERD2_PROXY_IDENTITY_SVC_ADDR":                        "identity",
		"LINKERD2_PROXY_IDENTITY_SVC_NAME":                        "",
		"LINKERD2_PROXY_IDENTITY_TOKEN_FILE":                      "",
		"LINKERD2_PROXY_IDENTITY_LOCAL_NAME":                      "",
		"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS":                   "",
		"LINKERD2_PROXY_IDENTITY_DISABLED":                        "true",
		"MESHPROOF_PROXY_SOCKET_MARK":                             "many",
		"MESHPROOF_PROXY_OBSERVE_ADDR":                            "0.0.0.0:4192",
		"MESHPROOF_DIALECT":                                       "klingon",
	} {
		env := injected()
		env[name] = value
		_, err := read(env)
		if err == nil || strings.Count(err.Error(), name+"=") != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%q: %v", name, value, err)
		}
	}
	env := injected()
	maps.Copy(env, map[string]string{"LINKERD2_PROXY_INBOUND_PORTS": "a,b", "MESHPROOF_DIALECT": "x"})
	if _, err := read(env); err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("three bad values: %v", err)
	}
}

func TestDefaultPoliciesNeedTheirNetworksInDialectLinkerd(t *testing.T) {
	for _, dialect := range []string{"documented", "linkerd"} {
		for _, name := range policy.Defaults {
			env := injected()
			env["MESHPROOF_DIALECT"], env["LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"] = dialect, name
			delete(env, "LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS")
			_, err := read(env)
			wantErr := dialect == "linkerd" && (name == "audit" || strings.HasPrefix(name, "cluster-"))
			if (err != nil) != wantErr {
				t.Errorf("%s, %s without networks: %v", dialect, name, err)
			}
		}
	}
}

// K-01: the identity has one name or the other two.
func TestTheIdentityIsNamedOnceOrTwice(t *testing.T) {
	const local, id, name = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME", "LINKERD2_PROXY_IDENTITY_SERVER_ID", "LINKERD2_PROXY_IDENTITY_SERVER_NAME"
	for _, row := range []struct {
		local, id, name, want string
	}{{"a.b", "", "", "a.b"}, {"", "a.b", "a.b", "a.b"}, {"a.b", "a.b", "a.b", "a.b"}, {"", "a.b", "", ""}, {"", "", "a.b", ""}, {"", "a.b", "c.d", ""}, {"c.d", "a.b", "a.b", ""}, {"", "", "", ""}} {
		env := injected()
		env[local], env[id], env[name] = row.local, row.id, row.name
		got, err := read(env)
		if (err == nil) != (row.want != "") || err == nil && got.LocalName != row.want {
			t.Errorf("%+v: %q, %v", row, got.LocalName, err)
		}
	}
}

// K-07: a control plane on this machine is spoken to without TLS, and needs no
// name to prove; the identity service is the exception.
func TestAControlPlaneOnLoopbackNeedsNoName(t *testing.T) {
	env := injected()
	env["LINKERD2_PROXY_POLICY_SVC_ADDR"], env["LINKERD2_PROXY_POLICY_SVC_NAME"] = "127.0.0.1:8090", ""
	env["LINKERD2_PROXY_DESTINATION_SVC_ADDR"], env["LINKERD2_PROXY_DESTINATION_SVC_NAME"] = "localhost:8086", ""
	got, err := read(env)
	if err != nil || got.PolicyName != "" || got.DestinationName != "" || policiesReady(got, nil) != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
