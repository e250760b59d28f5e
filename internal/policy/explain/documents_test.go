package explain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/workloads/emojivoto"
)

// The examples of the two documents, as they stand there.
const (
	votingServer = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata:
  namespace: emojivoto
  name: voting-grpc
  labels:
    app: voting-svc
spec:
  podSelector:
    matchLabels:
      app: voting-svc
  port: grpc
  proxyProtocol: gRPC
`
	votingGrant = `
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata:
  namespace: emojivoto
  name: voting-grpc
  labels:
    app.kubernetes.io/part-of: emojivoto
    app.kubernetes.io/name: voting
    app.kubernetes.io/version: v11
spec:
  server:
    name: voting-grpc
  # The voting service only allows requests from the web service.
  client:
    meshTLS:
      serviceAccounts:
        - name: web
`
	adminServer = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {namespace: emojivoto, name: admin}
spec: {podSelector: {}, port: linkerd-admin, proxyProtocol: HTTP/1}
`
	undeclaredServer = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {namespace: emojivoto, name: other}
spec: {podSelector: {matchLabels: {app: voting-svc}}, port: 9999}
`
	promServer = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {namespace: emojivoto, name: prom}
spec: {podSelector: {matchLabels: {app: voting-svc}}, port: prom}
`
	opaqueServer = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {namespace: emojivoto, name: prom}
spec: {podSelector: {matchLabels: {app: voting-svc}}, port: prom, proxyProtocol: opaque}
`
	probeServer = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {namespace: emojivoto, name: probed}
spec: {podSelector: {matchLabels: {app: probed}}, port: http, proxyProtocol: HTTP/1}
`
	routed = `
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {namespace: emojivoto, name: metrics}
spec: {parentRefs: [{kind: Server, name: prom}], rules: [{matches: [{path: {value: /metrics}}]}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: emojivoto, name: metrics}
spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: metrics}, requiredAuthenticationRefs: []}
`
	probedPod = `
apiVersion: v1
kind: Pod
metadata: {namespace: emojivoto, name: probed, labels: {app: probed}, annotations: {config.linkerd.io/default-inbound-policy: deny}}
spec: {containers: [{name: a, ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /ready, port: http}}}]}
`
)

// grant is a ServerAuthorization for Server prom.
func grant(client string) string {
	return "\napiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {namespace: emojivoto, name: grant}\nspec: {server: {name: prom}, client: " + client + "}\n"
}

// annotated is a Deployment that names a default policy in its pods' template, and
// one on its own metadata.
func annotated(template, own string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: emojivoto, name: annotated, annotations: {config.linkerd.io/default-inbound-policy: %s}}
spec: {template: {metadata: {labels: {app: annotated}, annotations: {config.linkerd.io/default-inbound-policy: %s}}, spec: {containers: [{name: a, ports: [{name: http, containerPort: 8080}]}]}}}
`, own, template)
}

const (
	voting  = "emojivoto/deploy/voting"
	vote    = "grpc /emojivoto.v1.VotingService/VoteDog"
	reflect = "grpc /grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	inside  = "unmeshed@10.1.2.3"
	outside = "unmeshed@203.0.113.7"
)

// asked is one claim of the documents; the verdicts are written by hand from them.
type asked struct {
	doc       string
	manifests []string
	pod, port string
	from, ask string
	cluster   api.PolicyName
	want      oracle.Outcome
	by        string
}

func documents() []asked {
	only := func(m ...string) []string { return m }
	return []asked{
		{"DOC-01", only(votingServer, votingGrant), voting, "grpc", "emojivoto/web", vote, "", oracle.Delivered, "serverauthorization/voting-grpc"},
		{"DOC-01", only(votingServer, votingGrant), voting, "grpc", "emojivoto/default", vote, "", oracle.PermissionDenied, ""},
		{"DOC-01", only(promServer, grant(`{meshTLS: {identities: ["*"]}}`)), voting, "prom", inside, "GET /", "", oracle.Forbidden, ""},
		{"DOC-01", only(promServer, grant(`{meshTLS: {identities: ["*"]}}`)), voting, "grpc", inside, vote, "", oracle.Delivered, ""},
		{"DOC-02", only("apiVersion: v1\nkind: Pod\nmetadata: {namespace: emojivoto, name: bare, labels: {app: voting-svc}, annotations: {linkerd.io/inject: disabled}}\nspec: {containers: [{name: a, ports: [{name: grpc, containerPort: 8080}]}]}", votingServer),
			"emojivoto/bare", "grpc", outside, vote, "", oracle.Unpoliced, ""},
		{"DOC-04", nil, voting, "grpc", outside, vote, "", oracle.Delivered, "default/all-unauthenticated"},
		{"DOC-05", only(annotated("deny", "all-unauthenticated")), "emojivoto/deploy/annotated", "http", inside, "GET /", "", oracle.Forbidden, ""},
		{"DOC-05", only(annotated("all-unauthenticated", "deny")), "emojivoto/deploy/annotated", "http", inside, "GET /", api.Deny, oracle.Delivered, "default/all-unauthenticated"},
		{"DOC-06", nil, voting, "grpc", "emojivoto/web", vote, api.Deny, oracle.PermissionDenied, ""},
		{"DOC-06", only(votingServer, votingGrant), voting, "grpc", "emojivoto/web", vote, api.Deny, oracle.Delivered, "serverauthorization/voting-grpc"},
		{"DOC-07", nil, voting, "prom", outside, "tcp", api.AllUnauthenticated, oracle.Delivered, ""},
		{"DOC-08", nil, voting, "prom", "elsewhere/anybody@203.0.113.7", "GET /", api.AllAuthenticated, oracle.Delivered, ""},
		{"DOC-08", nil, voting, "prom", inside, "GET /", api.AllAuthenticated, oracle.Forbidden, ""},
		{"DOC-09", nil, voting, "prom", inside, "GET /", api.ClusterUnauthenticated, oracle.Delivered, ""},
		{"DOC-09", nil, voting, "prom", "elsewhere/anybody@203.0.113.7", "GET /", api.ClusterUnauthenticated, oracle.Forbidden, ""},
		{"DOC-10", nil, voting, "prom", "elsewhere/anybody", "GET /", api.ClusterAuthenticated, oracle.Delivered, ""},
		{"DOC-10", nil, voting, "prom", "elsewhere/anybody@203.0.113.7", "GET /", api.ClusterAuthenticated, oracle.Forbidden, ""},
		{"DOC-10", nil, voting, "prom", inside, "GET /", api.ClusterAuthenticated, oracle.Forbidden, ""},
		{"DOC-11", nil, voting, "prom", "emojivoto/web", "tcp", api.Deny, oracle.Closed, ""},
		{"DOC-12", nil, voting, "prom", outside, "GET /", "", oracle.Delivered, "default/all-unauthenticated"},
		{"DOC-13", only(annotated("cluster-authenticated", "deny")), "emojivoto/deploy/annotated", "http", "emojivoto/web", "GET /", "", oracle.Delivered, "default/cluster-authenticated"},
		{"DOC-14", only("apiVersion: v1\nkind: Pod\nmetadata: {namespace: emojivoto, name: old, labels: {linkerd.io/control-plane-ns: linkerd}, annotations: {config.linkerd.io/default-inbound-policy: deny}}\nspec: {containers: [{name: linkerd-proxy, env: [{name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY, value: all-authenticated}]}]}"),
			"emojivoto/old", "8080", "emojivoto/web", "GET /", "", oracle.Delivered, "default/all-authenticated"},
		{"DOC-15", only(votingServer), voting, "grpc", "emojivoto/web", vote, "", oracle.PermissionDenied, ""},
		{"DOC-16", only(adminServer), "emojivoto/deploy/web", "linkerd-admin", inside, "GET /metrics", "", oracle.Forbidden, ""},
		{"DOC-16", only(adminServer), "emojivoto/deploy/vote-bot", "linkerd-admin", inside, "GET /metrics", "", oracle.Forbidden, ""},
		{"DOC-16", only(adminServer), "emojivoto/deploy/web", "http", inside, "GET /", "", oracle.Delivered, ""},
		{"DOC-17", only(votingServer), voting, "grpc", "emojivoto/web", vote, "", oracle.PermissionDenied, ""},
		{"DOC-18", only(promServer, grant("{unauthenticated: true, networks: [{cidr: 203.0.113.0/24}]}")), voting, "prom", outside, "GET /", "", oracle.Delivered, ""},
		{"DOC-18", only(promServer, grant("{meshTLS: {unauthenticatedTLS: true}}")), voting, "prom", "tls-no-identity", "GET /", "", oracle.Delivered, ""},
		{"DOC-18", only(promServer, grant(`{meshTLS: {identities: [web.emojivoto.serviceaccount.identity.linkerd.cluster.local]}}`)), voting, "prom", "emojivoto/web", "GET /", "", oracle.Delivered, ""},
		{"DOC-18", only(promServer, grant(`{meshTLS: {identities: ["*.emojivoto.serviceaccount.identity.linkerd.cluster.local"]}}`)), voting, "prom", "emojivoto/default", "GET /", "", oracle.Delivered, ""},
		{"DOC-18", only(promServer, grant(`{meshTLS: {identities: ["*.emojivoto.serviceaccount.identity.linkerd.cluster.local"]}}`)), voting, "prom", "default/default", "GET /", "", oracle.Forbidden, ""},
		{"DOC-19", only(undeclaredServer), voting, "9999", inside, "GET /", "", oracle.Delivered, "default/all-unauthenticated"},
		{"DOC-20", only(promServer), voting, "prom", inside, "GET /", "", oracle.Forbidden, ""},
		{"DOC-20", only(promServer), voting, "prom", inside, "h2 GET /", "", oracle.Forbidden, ""},
		{"DOC-20", only(votingServer), voting, "grpc", inside, vote, "", oracle.PermissionDenied, ""},
		{"DOC-21", only(promServer), voting, "prom", inside, "tcp", "", oracle.Closed, ""},
		{"DOC-21", only(opaqueServer), voting, "prom", inside, "GET /", "", oracle.Closed, ""},
		{"DOC-23", only(string(emojivoto.PolicyManifest())), voting, "grpc", "emojivoto/web", vote, "", oracle.Delivered, "serverauthorization/internal-grpc"},
		{"DOC-23", only(string(emojivoto.PolicyManifest())), voting, "grpc", "emojivoto/default", vote, "", oracle.PermissionDenied, ""},
		{"DOC-23", only(string(emojivoto.PolicyManifest())), "emojivoto/deploy/web", "http", outside, "GET /api/list", "", oracle.Delivered, "serverauthorization/web-public"},
		{"DOC-23", only(string(emojivoto.PolicyManifest())), voting, "grpc", inside, "GET /", "", oracle.ProtocolError, ""},
		{"DOC-25", only(votingServer), voting, "prom", inside, "GET /", "", oracle.Delivered, ""},
		{"DOC-25", only(votingServer), "emojivoto/deploy/emoji", "grpc", inside, "grpc /emojivoto.v1.EmojiService/ListAll", "", oracle.Delivered, ""},
		{"DOC-27", only(votingServer), voting, "grpc", "emojivoto/web", vote, "", oracle.PermissionDenied, ""},
		{"DOC-29", only(votingServer, votingGrant), voting, "grpc", "emojivoto/web", vote, "", oracle.Delivered, "serverauthorization/voting-grpc"},
		{"DOC-30", only(votingServer, votingGrant), voting, "grpc", "emojivoto/web", "grpc /emojivoto.v1.VotingService/VoteDoughnut", "", oracle.Delivered, "serverauthorization/voting-grpc"},
		{"DOC-31", only(votingServer, votingGrant), voting, "grpc", inside, reflect, "", oracle.PermissionDenied, ""},
		{"DOC-32", only(promServer, grant("{meshTLS: {serviceAccounts: [{name: voting}]}}"), strings.Replace(grant("{meshTLS: {serviceAccounts: [{name: web}]}}"), "name: grant", "name: second", 1)), voting, "prom", "emojivoto/web", "GET /", "", oracle.Delivered, "serverauthorization/second"},
		{"DOC-33", only(promServer, grant("{unauthenticated: true}")), voting, "prom", inside, "GET /", "", oracle.Delivered, ""},
		{"DOC-33", only(promServer, grant(`{meshTLS: {identities: ["*"]}}`)), voting, "prom", "elsewhere/anybody", "GET /", "", oracle.Delivered, ""},
		{"DOC-33", only(promServer, grant(`{meshTLS: {serviceAccounts: [{name: web}]}}`)), voting, "prom", "elsewhere/anybody", "GET /", "", oracle.Forbidden, ""},
		{"DOC-34", only(votingServer, votingGrant), voting, "grpc", "emojivoto/web", vote, api.Deny, oracle.Delivered, ""},
		{"DOC-34", only(votingServer, votingGrant), voting, "grpc", "emojivoto/emoji", vote, api.AllUnauthenticated, oracle.PermissionDenied, ""},
		{"DOC-34", only(votingServer, votingGrant), voting, "prom", "emojivoto/emoji", "GET /", api.AllUnauthenticated, oracle.Delivered, "default/all-unauthenticated"},
		{"DOC-35", nil, voting, "prom", "emojivoto/web", "GET /", api.Deny, oracle.Forbidden, ""},
		{"DOC-36", only(annotated("all-authenticated", "deny")), "emojivoto/deploy/annotated", "http", inside, "GET /", "", oracle.Forbidden, ""},
		{"DOC-37", only(probedPod), "emojivoto/probed", "http", inside, "GET /ready", "", oracle.Delivered, "default/probe"},
		{"DOC-38", only(probedPod, probeServer), "emojivoto/probed", "http", inside, "GET /ready", "", oracle.Forbidden, ""},
		{"DOC-38", only(probedPod, probeServer, strings.Replace(grant("{unauthenticated: true}"), "name: prom", "name: probed", 1)), "emojivoto/probed", "http", inside, "GET /ready", "", oracle.Delivered, "serverauthorization/grant"},
		{"DOC-42", only(promServer, routed), voting, "prom", outside, "GET /metrics", "", oracle.Delivered, "authorizationpolicy/metrics"},
		{"DOC-42", only(promServer, routed), voting, "prom", outside, "GET /other", "", oracle.NotFound, ""},
	}
}

// undecidable are the claims that are no matter of one settled world.
var undecidable = map[string]string{
	"DOC-03": "it is about a pod that is not created",
	"DOC-22": "it is about connections that were there before a change",
	"DOC-24": "it is about an installation",
	"DOC-26": "it is about the time that detection takes",
	"DOC-28": "it is about what is counted",
	"DOC-39": "it is about the order of changes",
	"DOC-40": "it is about the order of changes",
	"DOC-41": "it is about the order of changes",
}

func TestWhatTheDocumentsClaim(t *testing.T) {
	shown := map[string]bool{}
	for _, a := range documents() {
		shown[a.doc] = true
		text := string(emojivoto.Manifest()) + "\n---\n" + strings.Join(a.manifests, "\n---\n")
		set, err := objects.Read([]objects.Source{{Name: a.doc, Stream: strings.NewReader(text)}}, objects.Options{})
		if err != nil {
			t.Errorf("%s: %v", a.doc, err)
			continue
		}
		if a.cluster != "" {
			set.World.Settings.DefaultPolicy = a.cluster
		}
		var q explain.Question
		if q.Workload, err = explain.FindWorkload(set, a.pod); err != nil {
			t.Fatal(err)
		}
		if q.Port, q.PortName, err = explain.FindPort(q.Workload.Pod, a.port); err != nil {
			t.Fatal(err)
		}
		if q.Client, err = explain.ParseClient(a.from, set.World.Settings); err != nil {
			t.Fatal(err)
		}
		request := oracle.Request{Protocol: oracle.TCP}
		if a.ask != "tcp" {
			if request, err = explain.ParseRequest(a.ask, nil); err != nil {
				t.Fatal(err)
			}
		}
		q.Request = &request
		answer := explain.Ask(oracle.New(set.World, api.Documented()), set, q)
		if answer.Outcome != a.want || a.by != "" && answer.Authorization.String() != a.by {
			var chain strings.Builder
			if err := answer.WriteText(&chain); err != nil {
				t.Fatal(err)
			}
			t.Errorf("%s: %s asks %s:%s for %s: want %s by %q\n%s", a.doc, a.from, a.pod, a.port, a.ask, a.want, a.by, chain.String())
		}
	}
	for i := 1; i <= 42; i++ {
		doc := fmt.Sprintf("DOC-%02d", i)
		if _, left := undecidable[doc]; left == shown[doc] {
			t.Errorf("%s is shown: %v, and cannot be decided: %v", doc, shown[doc], left)
		}
	}
}
