package engine

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// recording is a recorder with one stream of that protocol from a meshed client,
// and with pods that were read up to these times.
func recording(protocol scenarios.Protocol, read map[string]time.Duration) *recorder {
	r := &recorder{witnesses: map[types.UID]*witness{}, rec: history.Recording{Began: noon, Streams: []history.Stream{{Name: "alice", Target: "app:http"}}}}
	r.flows = []*flow{{spec: &scenarios.Stream{Request: scenarios.Request{Protocol: protocol}}, target: scenarios.Target{Component: "app", Port: 8080},
		from: client{clientPod: &clientPod{meshed: true, address: netip.MustParseAddr("10.0.0.9")}}}}
	for _, name := range sorted(read) {
		r.witnesses[types.UID(name)] = &witness{pod: types.NamespacedName{Namespace: "ns", Name: name}, component: "app", echo: true, place: len(r.rec.Proxies), asked: read[name],
			decided: map[string]*decision{}, requests: map[string]int{}, lines: map[string]int{}}
		r.rec.Proxies = append(r.rec.Proxies, history.Proxy{Pod: "ns/" + name})
	}
	return r
}

func (r *recorder) asks(one history.Request) *history.Request {
	one.Delivered = unknown
	r.unplaced = append(r.unplaced, unplaced{place: len(r.rec.Requests), flow: r.flows[0]})
	r.rec.Requests = append(r.rec.Requests, one)
	return &r.rec.Requests[len(r.rec.Requests)-1]
}

func TestARequestIsWhoseProxyHasItsID(t *testing.T) {
	r := recording(scenarios.HTTP1, map[string]time.Duration{"a": 100, "b": 100})
	r.witnesses["b"].decided["x-1"] = &decision{Verdict: "deny", Hash: "h", Server: "server/s"}
	one := r.asks(history.Request{Start: 10, End: 20, Kind: clients.Forbidden, ID: "x-1"})
	r.placeAll()
	if one.Pod != "ns/b" || one.Hash != "h" || one.Record == nil || one.Record.Server != "server/s" || one.Delivered != 0 {
		t.Errorf("it is %+v", one)
	}
}

func TestARequestIsWhoseApplicationGotIt(t *testing.T) {
	r := recording(scenarios.TCP, map[string]time.Duration{"a": 100, "b": 100})
	r.witnesses["a"].lines["x-1"] = 2
	one := r.asks(history.Request{Start: 10, End: 20, Kind: clients.Allowed, ID: "x-1"})
	r.placeAll()
	if one.Pod != "ns/a" || one.Delivered != 2 {
		t.Errorf("it is %+v", one)
	}
}

func TestARequestWaitsForALogThatMayTellMoreOfIt(t *testing.T) {
	r := recording(scenarios.HTTP1, map[string]time.Duration{"a": 15})
	one := r.asks(history.Request{Start: 10, End: 20, Kind: clients.Allowed, ID: "x-1"})
	r.placeAll()
	if len(r.unplaced) != 1 || one.Delivered != unknown {
		t.Errorf("its answer came after the last look, and it is %+v", one)
	}
	// A pod that has gone tells nothing any more: what is not known stays unknown.
	r.witnesses["a"].gone = true
	r.placeAll()
	if len(r.unplaced) != 0 || one.Delivered != unknown || one.Pod != "" {
		t.Errorf("its pod has gone, and it is %+v", one)
	}
}

func TestWhatDiedWithALogIsUnknownAndWhatWasLostWhileItLivedIsLost(t *testing.T) {
	r := recording(scenarios.HTTP1, map[string]time.Duration{"a": 100})
	// Read at 30 last, and begun anew at 60.
	r.witnesses["a"].blind = []interval{{30, 60}}
	for _, one := range []struct {
		from, to time.Duration
		want     int
	}{{10, 30, 0}, {25, 31, unknown}, {40, 50, unknown}, {60, 70, unknown}, {61, 70, 0}} {
		q := r.asks(history.Request{Start: one.from, End: one.to, Kind: clients.Allowed, ID: "x-1"})
		if r.placeAll(); q.Delivered != one.want {
			t.Errorf("from %d to %d: delivered %d times, want %d", one.from, one.to, q.Delivered, one.want)
		}
	}
	r.witnesses["a"].requests["x-2"] = 1
	if q := r.asks(history.Request{Start: 40, End: 50, Kind: clients.Allowed, ID: "x-2"}); true {
		if r.placeAll(); q.Delivered != 1 {
			t.Errorf("what was read before is forgotten: %+v", q)
		}
	}
}

func TestALogIsAnothersWhenItsNumbersBeginAnew(t *testing.T) {
	for name, one := range map[string]struct {
		known, began time.Time
		since, last  int64
		want         bool
	}{
		"the same":                     {noon, noon, 5, 7, false},
		"the first time":               {time.Time{}, noon, 0, 7, false},
		"begun later":                  {noon, noon.Add(1), 5, 7, true},
		"shorter than it was":          {time.Time{}, time.Time{}, 5, 4, true},
		"nobody says when it began":    {time.Time{}, time.Time{}, 5, 5, false},
		"begun later, and not written": {noon, time.Time{}, 5, 0, true},
	} {
		if got := anew(one.known, one.began, one.since, one.last); got != one.want {
			t.Errorf("%s: %t, want %t", name, got, one.want)
		}
	}
}

func TestAConnectionIsTheDecisionOfItsTimeThatIsLikeItsAnswer(t *testing.T) {
	at := func(d time.Duration, verdict string) *decision {
		return &decision{Time: noon.Add(d), Client: "10.0.0.9:4000", TargetPort: 8080, Verdict: verdict}
	}
	for name, one := range map[string]struct {
		decisions []*decision
		want      string
	}{
		"the only one":                    {[]*decision{at(20*time.Millisecond, "deny")}, "deny"},
		"the one that is like the answer": {[]*decision{at(11*time.Millisecond, "deny"), at(12*time.Millisecond, "allow")}, "allow"},
		"none of several that are not":    {[]*decision{at(11*time.Millisecond, "deny"), at(12*time.Millisecond, "deny")}, ""},
		"none of another time":            {[]*decision{at(60*time.Millisecond, "allow")}, ""},
		"none of an end":                  {[]*decision{at(12*time.Millisecond, "terminate")}, ""},
	} {
		r := recording(scenarios.TCP, map[string]time.Duration{"a": time.Second})
		r.witnesses["a"].connections = one.decisions
		q := r.asks(history.Request{Start: 10 * time.Millisecond, End: 20 * time.Millisecond, Kind: clients.Allowed, ID: "x-1"})
		r.placeAll()
		if got := q.Record; (got == nil) != (one.want == "") || got != nil && got.Verdict != one.want {
			t.Errorf("%s: the record is %+v, want %q", name, got, one.want)
		}
	}
}

func inNS(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }

func TestRoutesDoNotCountForANewServerBeforeTheirStatusSaysSo(t *testing.T) {
	kind, group := api.ServerKind, api.Group
	to := func(names ...string) (refs []api.ParentReference) {
		for _, name := range names {
			refs = append(refs, api.ParentReference{Group: &group, Kind: &kind, Name: name})
		}
		return refs
	}
	route := func(name string, parents ...string) *api.HTTPRoute {
		r := &api.HTTPRoute{TypeMeta: metav1.TypeMeta{APIVersion: "policy.linkerd.io/v1beta3", Kind: api.HTTPRouteKind}, ObjectMeta: inNS(name)}
		r.Spec.ParentRefs = to(parents...)
		return r
	}
	w := oracle.World{HTTPRoutes: []*api.HTTPRoute{route("both", "new", "old"), route("new", "new"), route("old", "old")}}
	these := attached(w, "ns", "new")
	if len(these) != 2 || these[0].name != "both" || these[1].name != "new" {
		t.Fatalf("attached are %v", these)
	}
	out := detached(w, named{api.Group, api.ServerKind, "ns", "new"}, these)
	if len(out.HTTPRoutes) != 2 || out.HTTPRoutes[0].Name != "both" || len(out.HTTPRoutes[0].Spec.ParentRefs) != 1 || out.HTTPRoutes[0].Spec.ParentRefs[0].Name != "old" || out.HTTPRoutes[1].Name != "old" {
		t.Errorf("what counts is %+v", out.HTTPRoutes)
	}
	if len(w.HTTPRoutes[0].Spec.ParentRefs) != 2 {
		t.Error("the world itself was changed")
	}
}

// judgedAs judges a step that deletes the only Server, which denies, with calls
// every 10 ms that are denied until the delay after the write and allowed from then
// on.
func judgedAs(t *testing.T, claim scenarios.WindowClaim, delay time.Duration, edit func(*history.Recording)) verdict {
	t.Helper()
	const ms = time.Millisecond
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", Labels: map[string]string{api.ControlPlaneLabel: "linkerd"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}, {Name: api.ProxyContainer}}}}
	deny := &api.Server{TypeMeta: metav1.TypeMeta{APIVersion: "policy.linkerd.io/v1beta3", Kind: api.ServerKind}, ObjectMeta: inNS("http")}
	deny.Spec.PodSelector, deny.Spec.Port.IntVal, deny.Spec.AccessPolicy = &api.LabelSelector{}, 8080, api.Deny
	r := &recorder{worlds: map[string]*history.World{}}
	ids := make([]string, 2)
	for i, servers := range [][]*api.Server{{deny}, nil} {
		w, err := history.NewWorld(api.DialectDocumented, oracle.World{Settings: oracle.DefaultSettings(), Servers: servers}, []*corev1.Pod{pod})
		if err != nil {
			t.Fatal(err)
		}
		ids[i], r.worlds[w.ID] = w.ID, w
	}
	r.rec = history.Recording{Scenario: "s", Dialect: api.DialectDocumented, Began: noon, Budget: time.Second, Base: ids[0],
		Streams: []history.Stream{{Name: "alice", Target: "app:http", Protocol: "http1", Port: 8080, Rate: 100, Client: oracle.Client{Way: oracle.Plain, Address: netip.MustParseAddr("10.0.0.9")}, Request: oracle.Request{Protocol: oracle.HTTP1}}},
		Writes:  []history.Write{{Step: "open", Group: 1, Verb: "deleted", Kind: api.ServerKind, Namespace: "ns", Name: "http", Call: 300 * ms, Ack: 305 * ms, World: ids[1], InForce: []history.InForce{{Pod: "ns/a", Port: 8080, At: 330 * ms}}}},
		Proxies: []history.Proxy{{Pod: "ns/a", World: ids[0]}},
		Steps:   []history.StepSpan{{Name: "open", FirstWrite: 300 * ms, InForce: 330 * ms, To: 700 * ms}}}
	for i := range 70 {
		at := time.Duration(i) * 10 * ms
		one := history.Request{Call: int64(i + 1), Start: at, End: at + 2*ms, Kind: clients.Forbidden, HTTPStatus: 403, GRPCStatus: -1, Pod: "ns/a", Delivered: 0}
		if at >= 300*ms+delay {
			one.Kind, one.HTTPStatus, one.Delivered = clients.Allowed, 200, 1
		}
		r.rec.Requests = append(r.rec.Requests, one)
	}
	if edit != nil {
		edit(&r.rec)
	}
	v, err := transition.Judge(&r.rec, r.worlds, oracle.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	claim.Stream = "alice"
	return (&windowJudge{r: r, v: v, step: &r.rec.Steps[0], claim: &claim}).judge()
}

func TestClaimsAboutStreams(t *testing.T) {
	const ms = time.Millisecond
	before, during, after := scenarios.WindowClaim{Phase: scenarios.Before}, scenarios.WindowClaim{Phase: scenarios.During, Course: scenarios.OldOrNew}, scenarios.WindowClaim{Phase: scenarios.After}
	expecting := func(c scenarios.WindowClaim, outcome string) scenarios.WindowClaim {
		c.Expect = scenarios.Expect{outcome}
		return c
	}
	course := func(c scenarios.Course) scenarios.WindowClaim {
		return scenarios.WindowClaim{Phase: scenarios.During, Course: c}
	}
	fewer := func(r *history.Recording) { // every third call is made
		var kept []history.Request
		for i, q := range r.Requests {
			if i%3 == 0 {
				kept = append(kept, q)
			}
		}
		r.Requests = kept
	}
	// long has a call after the change end so.
	long := func(r *history.Recording, kind clients.Kind, lasts time.Duration) {
		q := &r.Requests[len(r.Requests)-8]
		q.Kind, q.HTTPStatus, q.Delivered, q.Record, q.End = kind, 0, unknown, nil, q.Start+lasts
		r.Steps[0].To = max(r.Steps[0].To, q.End)
		for r.Requests[len(r.Requests)-1].Start < r.Steps[0].To { // the stream goes on
			next := r.Requests[len(r.Requests)-1]
			next.Start, next.End, next.Call = next.Start+10*ms, next.End+10*ms, next.Call+1
			r.Requests = append(r.Requests, next)
		}
	}
	for name, one := range map[string]struct {
		claim   scenarios.WindowClaim
		delay   time.Duration
		edit    func(*history.Recording)
		outcome result.Outcome
		reason  string
	}{
		"before, as the rules say":                         {before, 20 * ms, nil, result.Passed, ""},
		"before, as it is written":                         {expecting(before, "denied"), 20 * ms, nil, result.Passed, ""},
		"before, against the rules":                        {expecting(before, "allowed"), 20 * ms, nil, result.Failed, "contradicts the rule book"},
		"old or new":                                       {during, 20 * ms, nil, result.Passed, ""},
		"a leak before anybody wrote":                      {before, -100 * ms, nil, result.Failed, "leak 10"},
		"an outage that stays when the change is in force": {after, 100 * ms, nil, result.Failed, "outage"},
		"after, as it is written":                          {expecting(after, "allowed"), 20 * ms, nil, result.Passed, ""},
		"after, in another form than is written":           {expecting(after, "not-found"), 20 * ms, nil, result.Failed, "expected not-found"},
		"never denied, although the old policy denies":     {course(scenarios.NeverDenied), 20 * ms, nil, result.Failed, "contradicts the rule book"},
		"a window of denials":                              {course(scenarios.WindowOfDenials), 20 * ms, nil, result.Passed, ""},
		"too few calls":                                    {during, 20 * ms, fewer, result.Inconclusive, "the rate was not kept"},
		"too few answers": {before, 20 * ms, func(r *history.Recording) {
			for i := range r.Requests[:30] {
				r.Requests[i].Kind, r.Requests[i].HTTPStatus, r.Requests[i].Delivered = clients.Timeout, 0, unknown
			}
			r.Faults = []history.Fault{{Name: "down", Down: true, To: 300 * ms}}
		}, result.Inconclusive, "0 calls were answered by a policy"},
		"a call that ends late proves nothing": {expecting(after, "allowed"), 20 * ms, func(r *history.Recording) {
			long(r, clients.Reset, 3*time.Second)
		}, result.Inconclusive, "the machine may be too busy"},
		"one that ends at once does": {expecting(after, "allowed"), 20 * ms, func(r *history.Recording) {
			long(r, clients.Reset, 10*ms)
		}, result.Failed, ""},
		"nobody waits, and the old policy stays": {expecting(after, "denied"), time.Hour, func(r *history.Recording) {
			r.Steps[0].InForce, r.Writes[0].InForce = 0, nil
		}, result.Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := judgedAs(t, one.claim, one.delay, one.edit)
			if v.outcome != one.outcome || !strings.Contains(v.reason, one.reason) {
				t.Errorf("%s: %s, want %s: %s", v.outcome, v.reason, one.outcome, one.reason)
			}
		})
	}
}

func TestALeakIsToldWithItsRequestItsVersionsAndItsReasons(t *testing.T) {
	v := judgedAs(t, scenarios.WindowClaim{Phase: scenarios.Before}, -100*time.Millisecond, nil)
	text := strings.Join(v.details, "\n")
	for _, want := range []string{"sent 12:00:00.200000, answered 12:00:00.202000", "version 0", "rules: "} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing is said of %q:\n%s", want, text)
		}
	}
}
