package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/status"
	"github.com/meshproof/meshproof/internal/mesh/revision"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// budget is what anything here may take; it is never waited for in full.
const budget = 20 * time.Second

type object = apistub.Object

func TestFlagsWinOverTheConfigMapAndThatOverTheDefaults(t *testing.T) {
	v := values.Default()
	v.DefaultInboundPolicy, v.ClusterNetworks, v.ProbeNetworks = api.Deny, []string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}
	v.IdentityTrustDomain, v.Dialect = "example.org", api.DialectLinkerd
	base := index.Config{
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ProbeNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		DefaultPolicy: api.Deny, ControlPlaneNamespace: "linkerd", IdentityDomain: "example.org",
	}
	for _, row := range []struct {
		args []string
		edit func(*index.Config)
	}{
		{nil, func(*index.Config) {}},
		{[]string{"--default-policy=audit"}, func(c *index.Config) { c.DefaultPolicy = api.Audit }},
		{[]string{"--cluster-networks=fd00::/8, 10.2.3.4/16"}, func(c *index.Config) {
			c.ClusterNetworks = []netip.Prefix{netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("10.2.0.0/16")}
		}},
		{[]string{"--probe-networks="}, func(c *index.Config) { c.ProbeNetworks = nil }},
		{[]string{"--identity-domain=cluster.local"}, func(c *index.Config) { c.IdentityDomain = "cluster.local" }},
		{[]string{"--dialect=documented"}, func(c *index.Config) { c.Dialect = api.Documented() }},
		{[]string{"--control-plane-namespace=mesh"}, func(c *index.Config) { c.ControlPlaneNamespace = "mesh" }},
	} {
		o, err := parseOptions(row.args)
		if err != nil {
			t.Fatal(err)
		}
		want := base
		row.edit(&want)
		got, err := o.config(v)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%v: -want +got\n%s", row.args, diff)
		}
	}
}

func TestSettingsThatCannotBeActedOnAreRefused(t *testing.T) {
	for args, complaint := range map[string]string{
		"--default-policy=allow":                `default policy "allow" is not one of`,
		"--cluster-networks=10.0.0.0/99":        `cluster networks: "10.0.0.0/99" is neither`,
		"--probe-networks=x":                    `probe networks: "x" is neither`,
		"--dialect=x":                           `dialect "x": want`,
		"--observe-addr=0.0.0.0:9990":           "want a loopback address",
		"--observe-addr=:9990":                  "want a loopback address",
		"extra":                                 `unexpected argument "extra"`,
		"--control-plane-namespace=linkerd --x": "flag provided but not defined: -x",
	} {
		o, err := parseOptions(strings.Fields(args))
		if err == nil {
			_, err = o.config(values.Default())
		}
		if err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: got %v, want …%s…", args, err, complaint)
		}
	}
}

func TestOwnNameAndIdentityServiceFollowFromTheConfiguration(t *testing.T) {
	o, err := parseOptions([]string{"--control-plane-namespace=mesh", "--identity-domain=example.org"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := o.config(values.Default())
	if err != nil {
		t.Fatal(err)
	}
	o.identities(values.Default(), config)
	want := []string{
		"linkerd-identity-headless.mesh.svc.cluster.local:8080", "linkerd-identity.mesh.serviceaccount.identity.mesh.example.org",
		"linkerd-destination.mesh.serviceaccount.identity.mesh.example.org",
	}
	if diff := cmp.Diff(want, []string{o.identityAddr, o.identityName, o.localName}); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestTheRoleTurnsObjectsIntoAnswers runs the whole role but for TLS and the
// webhook: from the API server's objects to a proxy's stream, /observed, the
// metrics and the events.
// M-14, W-23.
func TestTheRoleTurnsObjectsIntoAnswers(t *testing.T) {
	const ns = "emojivoto"
	stub := apistub.New(t)
	configuration := values.Default()
	configuration.DefaultInboundPolicy = api.AllAuthenticated
	text, err := configuration.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	stub.Put("/api/v1/namespaces/linkerd/configmaps", object{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": object{"namespace": "linkerd", "name": values.ConfigMapName}, "data": object{values.Key: string(text)}})
	stub.Put("/api/v1/pods", object{"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"namespace": ns, "name": "voting", "uid": "1", "labels": object{"app": "voting-svc", api.ControlPlaneLabel: "linkerd"}},
		"spec":     object{"containers": []any{object{"name": "app", "ports": []any{object{"name": "grpc", "containerPort": 8080}}}}}})

	// Another replica writes status.
	stub.Put("/apis/coordination.k8s.io/v1/namespaces/linkerd/leases", object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": object{"namespace": "linkerd", "name": status.LeaseName},
		"spec":     object{"holderIdentity": "another", "renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), "leaseDurationSeconds": 3600}})

	grpcAddr, adminAddr, observeAddr := free(t), free(t), free(t)
	o, err := parseOptions([]string{"--plaintext", "--webhook-addr=", "--grpc-addr=" + grpcAddr, "--admin-addr=" + adminAddr, "--observe-addr=" + observeAddr})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c, err := newController(ctx, o, stub.Config())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()
	defer func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(budget):
			t.Error("the role does not end")
		}
		http.DefaultClient.CloseIdleConnections()
	}()

	connection, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	deadline, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	stream, err := inboundpb.NewInboundServerPoliciesClient(connection).WatchPort(deadline, &inboundpb.PortSpec{Workload: `{"ns":"emojivoto","pod":"voting"}`, Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		message, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s/%s with %d", message.Labels["kind"], message.Labels["name"], len(message.Authorizations))
	}
	var got []string
	got = append(got, told())
	version := stub.Put("/apis/policy.linkerd.io/v1beta3/servers", object{"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
		"metadata": object{"namespace": ns, "name": "voting-grpc", "uid": "2"},
		"spec":     object{"podSelector": object{"matchLabels": object{"app": "voting-svc"}}, "port": "grpc", "proxyProtocol": "gRPC"}})
	got = append(got, told())
	stub.Put("/apis/policy.linkerd.io/v1beta1/serverauthorizations", object{"apiVersion": "policy.linkerd.io/v1beta1", "kind": "ServerAuthorization",
		"metadata": object{"namespace": ns, "name": "voting-grpc", "uid": "3"},
		"spec":     object{"server": object{"name": "voting-grpc"}, "client": object{"meshTLS": object{"serviceAccounts": []any{object{"name": "web"}}}}}})
	got = append(got, told())
	want := []string{"default/all-authenticated with 1", "server/voting-grpc with 0", "server/voting-grpc with 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the proxy was told: -want +got\n%s", diff)
	}

	var answer struct{ Observed map[string]string }
	if err := json.Unmarshal([]byte(fetch(t, observeAddr, "/observed?min=servers:"+version)), &answer); err != nil || answer.Observed["servers"] != version {
		t.Errorf("observed %v, %v; written %s", answer.Observed, err, version)
	}
	<-c.status.Settled()
	if ready := fetch(t, adminAddr, "/ready"); ready != "ready\n" {
		t.Errorf("ready says %q", ready)
	}
	metrics := fetch(t, adminAddr, "/metrics")
	for _, line := range []string{
		fmt.Sprintf(`policy_observed_resource_version{kind="servers"} %s`, version),
		`resource_status_lease_holder 0`,
		`grpc_server_msg_sent_total{grpc_method="WatchPort",grpc_service="io.linkerd.proxy.inbound.InboundServerPolicies"} 3`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}

	// Abuse case 80: a proxy comes from a replica that has seen what has not come here.
	stub.Silently("/apis/policy.linkerd.io/v1beta1/serverauthorizations", func(objects map[string]object) { delete(objects, ns+"/voting-grpc") })
	asking := metadata.AppendToOutgoingContext(deadline, revision.LeastKey, "servers="+version+",serverauthorizations="+stub.Version())
	stream, err = inboundpb.NewInboundServerPoliciesClient(connection).WatchPort(asking, &inboundpb.PortSpec{Workload: `{"ns":"emojivoto","pod":"voting"}`, Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	if got := told(); got != "server/voting-grpc with 0" {
		t.Errorf("the proxy of another replica was told %s first", got)
	}
}

// free is a loopback address that nobody listens on at the moment.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func fetch(t *testing.T, address, path string) string {
	t.Helper()
	response, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
