package oracle_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// row is one claim about the rule book: in a world of some objects a client's
// request to the pod has an outcome. Everything is written by hand from the rules
// that it names.
type row struct {
	// rules are the IDs that the row shows.
	rules string
	claim string
	// objects besides the pod and its namespace; see the functions below.
	objects []string
	// pod replaces the usual pod, and namespace the usual namespace.
	pod, namespace string
	// set changes the settings of the installation.
	set func(*oracle.Settings)
	// edit changes what was read, where no manifest can say it.
	edit func(*objects.Set)
	// port is http when it is empty.
	port string
	// from is a client as explain has it, or one of otherClients.
	from string
	// ask is a request as explain has it, tcp or silent, or GET / with a header of
	// the client's own that announces nothing or http; GET / when it is empty.
	ask     string
	headers []string
	// in is the only dialect in which the row holds; both when it is empty.
	in string
	// want is the outcome, by the authorization, route and limits if given.
	want   oracle.Outcome
	by     string
	route  string
	limits string
	status int
	logged bool
}

const (
	onlyDocumented = api.DialectDocumented
	onlyLinkerd    = api.DialectLinkerd
)

// usualPod listens for everything; usualNamespace says nothing.
const (
	usualPod = `{apiVersion: v1, kind: Pod, metadata: {name: app, namespace: ns, labels: {app: web, tier: front}}, spec: {serviceAccountName: self, containers: [
		{name: app, ports: [{name: http, containerPort: 8080}, {name: grpc, containerPort: 8081}, {name: tcp, containerPort: 9090}, {name: dns, containerPort: 5353, protocol: UDP}]},
		{name: other, ports: [{name: extra, containerPort: 8082}]}]}}`
	usualNamespace = `{apiVersion: v1, kind: Namespace, metadata: {name: ns}}`
)

func object(version, kind, name, spec string) string {
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s, namespace: ns}, spec: %s}", version, kind, name, spec)
}

// server is for the usual pod's port, which spec begins with.
func server(name, port string, more ...string) string {
	return object("policy.linkerd.io/v1beta3", "Server", name, "{podSelector: {matchLabels: {app: web}}, port: "+port+strings.Join(append([]string{""}, more...), ", ")+"}")
}

func serverWith(name, port, selector string) string {
	return object("policy.linkerd.io/v1beta3", "Server", name, "{podSelector: "+selector+", port: "+port+"}")
}

func saz(name, server, client string) string {
	return object("policy.linkerd.io/v1beta1", "ServerAuthorization", name, "{server: "+server+", client: "+client+"}")
}

func grant(name, target string, references ...string) string {
	return object("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", name, "{targetRef: "+target+", requiredAuthenticationRefs: ["+strings.Join(references, ", ")+"]}")
}

func meshTLS(name, spec string) string {
	return object("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication", name, spec)
}

func network(name, networks string) string {
	return object("policy.linkerd.io/v1alpha1", "NetworkAuthentication", name, "{networks: "+networks+"}")
}

// httpRoute is attached to Server http, and grpcRoute to Server grpc.
func httpRoute(name, spec string) string {
	return object("policy.linkerd.io/v1beta3", "HTTPRoute", name, "{parentRefs: [{kind: Server, name: http}], "+spec+"}")
}

func gatewayRoute(name, spec string) string {
	return object("gateway.networking.k8s.io/v1", "HTTPRoute", name, "{parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}], "+spec+"}")
}

func grpcRoute(name, spec string) string {
	return object("gateway.networking.k8s.io/v1", "GRPCRoute", name, "{parentRefs: [{group: policy.linkerd.io, kind: Server, name: grpc}], "+spec+"}")
}

func limit(name, spec string) string {
	return object("policy.linkerd.io/v1alpha1", "HTTPLocalRateLimitPolicy", name, "{targetRef: {group: policy.linkerd.io, kind: Server, name: http}, "+spec+"}")
}

// at gives an object a creation time.
func at(time, object string) string {
	return strings.Replace(object, "metadata: {", "metadata: {creationTimestamp: \""+time+"\", ", 1)
}

const (
	early = "2026-01-01T00:00:00Z"
	late  = "2026-01-02T00:00:00Z"
)

func in(namespace, object string) string {
	return strings.Replace(object, "namespace: ns", "namespace: "+namespace, 1)
}

func labelled(labels, object string) string {
	return strings.Replace(object, "metadata: {", "metadata: {labels: "+labels+", ", 1)
}

// podWith gives the usual pod annotations, and podProbed its first container
// probes.
func podWith(annotations string) string {
	return strings.Replace(usualPod, "metadata: {", "metadata: {annotations: "+annotations+", ", 1)
}

func podProbed(declared string) string {
	return strings.Replace(usualPod, "{name: app, ports", "{name: app, "+declared+", ports", 1)
}

// created is the pod after the injector: with its label, and a proxy whose
// variable holds what was resolved.
func created(policy, pod string) string {
	pod = strings.Replace(pod, "labels: {", "labels: {linkerd.io/control-plane-ns: linkerd, ", 1)
	return strings.Replace(pod, "containers: [", `containers: [{name: linkerd-proxy, env: [{name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY, value: "`+policy+`"}], ports: [{name: linkerd-proxy, containerPort: 4143}, {name: linkerd-admin, containerPort: 4191}]},`, 1)
}

func namespaceWith(annotations string) string {
	return strings.Replace(usualNamespace, "metadata: {", "metadata: {annotations: "+annotations+", ", 1)
}

func annotated(policy string) string {
	return "{config.linkerd.io/default-inbound-policy: " + policy + "}"
}

const (
	anyone    = "{unauthenticated: true}"
	byName    = "{name: http}"
	toServer  = "{group: policy.linkerd.io, kind: Server, name: http}"
	toRoute   = "{group: policy.linkerd.io, kind: HTTPRoute, name: r}"
	needsMesh = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}"
	needsNet  = "{group: policy.linkerd.io, kind: NetworkAuthentication, name: n}"
	alice     = "alice.ns.serviceaccount.identity.linkerd.cluster.local"
	outside   = "unmeshed@203.0.113.7"
)

// otherClients are those that no command can name.
var otherClients = map[string]oracle.Client{
	"alice-direct": {Way: oracle.MeshedDirect, Identity: alice, Address: netip.MustParseAddr("10.0.0.9")},
	"foreign-root": {Way: oracle.ForeignRoot, Identity: alice, Address: netip.MustParseAddr("10.0.0.9")},
	"foreign-tls":  {Way: oracle.ForeignTLS, Address: netip.MustParseAddr("10.0.0.9")},
}

func (r row) world(t *testing.T) (*objects.Set, objects.Workload) {
	t.Helper()
	pod, namespace := r.pod, r.namespace
	if pod == "" {
		pod = usualPod
	}
	if namespace == "" {
		namespace = usualNamespace
	}
	text := strings.Join(append([]string{namespace, pod}, r.objects...), "\n---\n")
	set, err := objects.Read([]objects.Source{{Name: "row", Stream: strings.NewReader(text)}}, objects.Options{WebhookAway: true})
	if err != nil {
		t.Fatalf("%s: %v", r.claim, err)
	}
	if r.set != nil {
		r.set(&set.World.Settings)
	}
	if r.edit != nil {
		r.edit(set)
	}
	return set, set.Workloads[0]
}

func (r row) judge(t *testing.T, dialect api.Dialect, rules oracle.Rules) oracle.Verdict {
	t.Helper()
	set, workload := r.world(t)
	o := oracle.New(set.World, dialect)
	o.Rules = rules
	port := r.port
	if port == "" {
		port = "http"
	}
	number, _, err := explain.FindPort(workload.Pod, port)
	if err != nil {
		t.Fatalf("%s: %v", r.claim, err)
	}
	client, other := otherClients[r.from]
	if !other {
		parsed, err := explain.ParseClient(r.from, set.World.Settings)
		if err != nil {
			t.Fatalf("%s: %v", r.claim, err)
		}
		client = parsed.Client
	}
	var request oracle.Request
	switch r.ask {
	case "":
		request = oracle.Request{Protocol: oracle.HTTP1}
	case "tcp":
		request = oracle.Request{Protocol: oracle.TCP}
	case "silent":
		request = oracle.Request{Protocol: oracle.Silent}
	case "announced nothing":
		request = oracle.Request{Protocol: oracle.HTTP1, Announced: oracle.AnnouncesNothing}
	case "announced http":
		request = oracle.Request{Protocol: oracle.HTTP1, Announced: oracle.AnnouncesHTTP}
	case "dribbled":
		request = oracle.Request{Protocol: oracle.HTTP1, Dribbled: true}
	default:
		if request, err = explain.ParseRequest(r.ask, r.headers); err != nil {
			t.Fatalf("%s: %v", r.claim, err)
		}
	}
	return o.Judge(workload.Pod, number, client, request)
}

// dialects are those in which the row holds.
func (r row) dialects(t *testing.T) []api.Dialect {
	t.Helper()
	if r.in == "" {
		return []api.Dialect{api.Documented(), api.Linkerd()}
	}
	dialect, err := api.ParseDialect(r.in)
	if err != nil {
		t.Fatal(err)
	}
	return []api.Dialect{dialect}
}

// seen is what of a verdict a row can be about.
type seen struct {
	Outcome           oracle.Outcome
	By, Route, Limits string
	Status            int
	Logged            bool
}

func (r row) seen(v oracle.Verdict) seen {
	s := seen{Outcome: v.Outcome, Logged: v.Logged}
	if r.by != "" {
		s.By = v.Authorization.String()
	}
	if r.route != "" {
		s.Route = v.Route.String()
	}
	if r.status != 0 {
		s.Status = v.Status
	}
	if r.limits != "" {
		var limits []string
		for _, l := range v.Limits {
			limits = append(limits, fmt.Sprintf("%s %s %d", l.Policy.Name, l.Scope, l.RequestsPerSecond))
		}
		s.Limits = strings.Join(append(limits, "."), ", ")
	}
	return s
}

func (r row) wanted() seen {
	return seen{r.want, r.by, r.route, r.limits, r.status, r.logged}
}

func TestTheRuleBook(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.rules+" "+r.claim, func(t *testing.T) {
			for _, dialect := range r.dialects(t) {
				v := r.judge(t, dialect, oracle.DefaultRules())
				if diff := cmp.Diff(r.wanted(), r.seen(v)); diff != "" {
					t.Errorf("%s: -want +got\n%s%s", dialect, diff, chain(v))
				}
			}
		})
	}
}

func chain(v oracle.Verdict) string {
	var lines strings.Builder
	for _, s := range v.Steps {
		fmt.Fprintf(&lines, "%v %s %s %s\n", s.Holds, s.Topic, s.Rule, s.Text)
	}
	return lines.String()
}

// TestEveryNegationIsNoticed is the proof that the rows show what they say: with
// a rule negated, some row that carries its ID comes out differently.
func TestEveryNegationIsNoticed(t *testing.T) {
	all := rows()
	for _, n := range oracle.Negations() {
		t.Run(n.Rule+": "+n.As, func(t *testing.T) {
			carried, noticed := noticedInSeries(n)
			if noticed {
				return
			}
			for _, r := range all {
				if !slices.Contains(strings.Split(r.rules, " "), strings.ReplaceAll(n.Rule, " ", "-")) {
					continue
				}
				carried = true
				for _, dialect := range r.dialects(t) {
					rules := oracle.DefaultRules()
					n.Apply(&rules)
					if r.seen(r.judge(t, dialect, rules)) != r.wanted() {
						return
					}
				}
			}
			if !carried {
				t.Fatal("no row carries the rule")
			}
			t.Error("no row that carries the rule notices")
		})
	}
}
