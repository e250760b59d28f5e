package history

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Form says what a question is about.
type Form string

// The forms. The closed set is listed by Forms.
const (
	// Call: what becomes of a request.
	Call Form = "call"
	// Held: whether a connection that was let in before is still open.
	Held Form = "held"
	// Policy: whose policy a port has.
	Policy Form = "policy"
	// Probe: whether the kubelet's probes are let in.
	Probe Form = "probe"
	// Rate: how many of a series of calls are limited.
	Rate Form = "rate"
)

// Forms lists every Form.
func Forms() []Form { return []Form{Call, Held, Policy, Probe, Rate} }

// World is what policy depended on at one moment.
type World struct {
	// ID is the digest of the rest.
	ID      string        `json:"id"`
	Dialect string        `json:"dialect"`
	World   oracle.World  `json:"world"`
	Pods    []*corev1.Pod `json:"pods"`
}

// Question is one thing that was asked of the mesh and of the rules.
type Question struct {
	// Claim is the claim's ID, and Shows what it says that it shows.
	Claim string   `json:"claim"`
	Shows []string `json:"shows,omitempty"`
	Form  Form     `json:"form"`
	// World is the ID of the world it was asked in.
	World string `json:"world"`
	// Pod is namespace/name.
	Pod  string `json:"pod"`
	Port uint16 `json:"port"`
	// Client and Request; neither is asked for with Policy.
	Client  oracle.Client  `json:"client"`
	Request oracle.Request `json:"request"`
	// Flows are asked for with Rate, in place of the fields above.
	Flows []Flow `json:"flows,omitempty"`
	// Observed is what was seen.
	Observed Observed `json:"observed"`
	// Early says that the claim had time to come true, had not yet, and that it
	// was asked again.
	Early bool `json:"early,omitempty"`

	world *World
	// asWas is what Judge says by the rules as they are, once somebody asked.
	asWas *[]string
}

// Observed is what was seen of the answer to a question. Which fields are filled
// depends on the form.
type Observed struct {
	// Kind, HTTPStatus and GRPCStatus are the client's outcome of a Call; Kind is
	// allowed for a connection that is held and open or a probe that was let in,
	// and closed for one that is not.
	Kind       clients.Kind `json:"kind,omitempty"`
	HTTPStatus int          `json:"httpStatus,omitempty"`
	// Reached says that the application is known to have got the request.
	Reached bool `json:"reached,omitempty"`
	// Record is the proxy's own of its decision; nil when none was found.
	Record *Record `json:"record,omitempty"`
	// Server is whose policy the port has, as kind/name; empty where nothing is
	// enforced.
	Server string `json:"server,omitempty"`
	// Logged says whether the proxy wrote that it allowed the request for the
	// sake of audit; nil when nobody looked.
	Logged *bool `json:"logged,omitempty"`
	// Sent are the calls of a series, in any order.
	Sent []Sent `json:"sent,omitempty"`
}

// Record is a proxy's record of a decision: kind/name of what decided.
type Record struct {
	Verdict string `json:"verdict"`
	// Protocol that the proxy took the connection for; raw for none of HTTP.
	Protocol      string `json:"protocol,omitempty"`
	Server        string `json:"server,omitempty"`
	Route         string `json:"route,omitempty"`
	Authorization string `json:"authorization,omitempty"`
}

// Oracle judges in the world by the rules.
func (w *World) Oracle(rules oracle.Rules) (oracle.Oracle, error) {
	dialect, err := api.ParseDialect(w.Dialect)
	if err != nil {
		return oracle.Oracle{}, fmt.Errorf("world %s: %w", w.ID, err)
	}
	return oracle.Oracle{World: w.World, Dialect: dialect, Rules: rules}, nil
}

// pod finds a pod by namespace/name.
func (w *World) pod(name string) *corev1.Pod {
	at := slices.IndexFunc(w.Pods, func(p *corev1.Pod) bool { return p.Namespace+"/"+p.Name == name })
	if at < 0 {
		return nil
	}
	return w.Pods[at]
}

// Judge puts the question to the oracle with these rules, and says what of the
// observations is at odds with the verdict; nothing when all fits.
func (q *Question) Judge(rules oracle.Rules) ([]string, error) {
	if q.world == nil {
		return nil, fmt.Errorf("question of claim %s: it has no world", q.Claim)
	}
	return q.judgeIn(q.world, rules)
}

// AsItWas is Judge by the rules as they are.
func (q *Question) AsItWas() ([]string, error) {
	if q.asWas == nil {
		differences, err := q.Judge(oracle.DefaultRules())
		if err != nil {
			return nil, err
		}
		q.asWas = &differences
	}
	return *q.asWas, nil
}

// Differences is Judge in a world that the question was not yet asked in.
func (w *World) Differences(q *Question, rules oracle.Rules) ([]string, error) {
	return q.judgeIn(w, rules)
}

func (q *Question) judgeIn(w *World, rules oracle.Rules) ([]string, error) {
	o, err := w.Oracle(rules)
	if err != nil {
		return nil, err
	}
	if q.Form == Rate {
		forecast, err := q.Forecast(w, o)
		if err != nil {
			return nil, err
		}
		return forecast.Differences(q), nil
	}
	pod := w.pod(q.Pod)
	if pod == nil {
		return nil, fmt.Errorf("question of claim %s: pod %s is not in its world", q.Claim, q.Pod)
	}
	if q.Form == Policy {
		return policyDifferences(o.Resolve(pod, q.Port), q.Observed), nil
	}
	return Differences(o.Judge(pod, q.Port, q.Client, q.Request), q, o.Dialect), nil
}

func policyDifferences(p oracle.Policy, o Observed) []string {
	want := p.Server.String()
	if p.Unpoliced {
		want = ""
	}
	if want != o.Server {
		return []string{fmt.Sprintf("by the rules the port has the policy of %q, observed that of %q", want, o.Server)}
	}
	return nil
}

// Differences is what of the observations is at odds with a verdict.
func Differences(v oracle.Verdict, q *Question, dialect api.Dialect) []string {
	o := q.Observed
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	switch q.Form {
	case Held, Probe:
		if v.Allowed() != (o.Kind == clients.Allowed) {
			add("by the rules it is %s, observed %s", v.Outcome, o.Kind)
		}
		return found
	}
	reached := o.Reached || o.Record != nil && o.Record.Verdict == allowed
	if !asked.Fits(o.Kind, v, q.Client, q.Request.Protocol, reached) {
		add("by the rules it is %s, observed %s", v.Outcome, o.Kind)
		return found
	}
	if v.Status != 0 && o.HTTPStatus != 0 && v.Outcome == oracle.Redirected && o.HTTPStatus != v.Status {
		add("by the rules the status is %d, observed %d", v.Status, o.HTTPStatus)
	}
	if o.Logged != nil && *o.Logged != v.Logged {
		add("by the rules it is logged as audited: %v, observed %v", v.Logged, *o.Logged)
	}
	return append(found, recordDifferences(v, o, dialect.NamedCreditedFirst)...)
}

// recordDifferences compares the proxy's record with the verdict. Where it is not
// determined which authorization gets the credit, any may that fits.
func recordDifferences(v oracle.Verdict, o Observed, determined bool) []string {
	if o.Record == nil {
		return nil
	}
	var found []string
	differs := func(what, want, got string) {
		found = append(found, fmt.Sprintf("by the rules the %s is %q, the proxy recorded %q", what, want, got))
	}
	if want := Verdicts(v, o.Kind); len(want) > 0 && !slices.Contains(want, o.Record.Verdict) {
		differs("decision", want[0], o.Record.Verdict)
	}
	if o.Record.Verdict == refused {
		return found // before there was any policy to name
	}
	if v.Server.String() != o.Record.Server {
		differs("server", v.Server.String(), o.Record.Server)
	}
	if v.Course == oracle.AsHTTP && v.Route.String() != o.Record.Route {
		differs("route", v.Route.String(), o.Record.Route)
	}
	if http := o.Record.Protocol != raw; o.Record.Protocol != "" && (v.Course == oracle.AsHTTP || v.Course == oracle.AsTCP) && http != (v.Course == oracle.AsHTTP) {
		differs("course", string(v.Course), o.Record.Protocol)
	}
	credited := func(l oracle.Label) bool { return l.String() == o.Record.Authorization }
	if !credited(v.Authorization) && (determined || !slices.ContainsFunc(v.Fitting, credited)) {
		differs("authorization", v.Authorization.String(), o.Record.Authorization)
	}
	return found
}

const (
	// allowed is how a proxy records what policy lets through.
	allowed = "allow"
	// refused is how it records what it refused without asking the policy.
	refused = "refuse"
	// raw is how it records a connection that it does not take for HTTP.
	raw = "opaque"
)

// NoList reports whether a connection is refused because a policy of HTTP has no
// list for connections (T-18, T-33, L-09): that is a denial by the policy, while what is
// refused otherwise never comes to one.
func NoList(v oracle.Verdict) bool {
	return v.Course == oracle.Refuse && (v.CourseRule == "T-18" || v.CourseRule == "T-33" || v.CourseRule == "L-09")
}

// Verdicts are the words with which a proxy records such a decision; none where
// it records nothing, or whatever it likes.
func Verdicts(v oracle.Verdict, seen clients.Kind) []string {
	authorized := v.Authorization != oracle.Label{}
	switch {
	case seen == clients.Limited && len(v.Limits) > 0:
		return []string{"limited"}
	case v.Outcome == oracle.Delivered, v.Outcome == oracle.Forbidden && authorized:
		return []string{allowed} // what the admin port refuses in spite of a grant was granted
	case v.Outcome == oracle.Redirected, v.Outcome == oracle.GRPCNotFound && authorized:
		return []string{"redirect"}
	case v.Outcome == oracle.Forbidden, v.Outcome == oracle.PermissionDenied:
		return []string{"deny"}
	case v.Outcome == oracle.NotFound, v.Outcome == oracle.GRPCNotFound:
		return []string{"not-found"}
	case v.Outcome == oracle.BadRequest:
		return []string{"ambiguous"}
	case v.Outcome == oracle.Closed && v.Course == oracle.AsTCP && !authorized:
		return []string{"deny", refused} // the admin port refuses what is not HTTP before it asks
	case NoList(v):
		return []string{"deny"}
	case v.Outcome == oracle.HandshakeFailed, v.Outcome == oracle.Closed:
		return []string{refused}
	}
	return nil
}

// Slim is a pod without what no rule asks for: the worlds of a run are many.
func Slim(pod *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{}
	out.Name, out.Namespace, out.UID = pod.Name, pod.Namespace, pod.UID
	out.Labels, out.Annotations = pod.Labels, pod.Annotations
	out.Spec.ServiceAccountName, out.Spec.HostNetwork = pod.Spec.ServiceAccountName, pod.Spec.HostNetwork
	out.Status.PodIP = pod.Status.PodIP
	container := func(c corev1.Container) corev1.Container {
		kept := corev1.Container{Name: c.Name, Ports: c.Ports, LivenessProbe: c.LivenessProbe, ReadinessProbe: c.ReadinessProbe, StartupProbe: c.StartupProbe, RestartPolicy: c.RestartPolicy}
		for _, e := range c.Env {
			if c.Name == api.ProxyContainer && e.Name == api.ProxyDefaultPolicyVariable {
				kept.Env = append(kept.Env, e)
			}
		}
		return kept
	}
	for _, c := range pod.Spec.InitContainers {
		out.Spec.InitContainers = append(out.Spec.InitContainers, container(c))
	}
	for _, c := range pod.Spec.Containers {
		out.Spec.Containers = append(out.Spec.Containers, container(c))
	}
	return out
}
