package transition_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
)

const ms = time.Millisecond

// story is a recording that a test tells: two pods of app, and alice who calls
// their port 8080.
type story struct {
	t         *testing.T
	recording history.Recording
	worlds    map[string]*history.World
	texts     map[string]string
	at        string // the world of now
}

const (
	podOne, podTwo = "ns/app-1", "ns/app-2"

	server = `{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: http, namespace: ns}, spec: {podSelector: {matchLabels: {app: app}}, port: 8080, proxyProtocol: HTTP/1}}`
	grant  = `{apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: alice, namespace: ns}, spec: {server: {name: http}, client: {meshTLS: {serviceAccounts: [{name: alice}]}}}}`
	opaque = `{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: tcp, namespace: ns}, spec: {podSelector: {matchLabels: {app: app}}, port: 9090, proxyProtocol: opaque}}`
	raw    = `{apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: raw, namespace: ns}, spec: {server: {name: tcp}, client: {meshTLS: {serviceAccounts: [{name: alice}]}}}}`
)

// tell begins a story in a world of some objects, with a budget of 100 ms.
func tell(t *testing.T, objects ...string) *story {
	s := &story{t: t, worlds: map[string]*history.World{}, texts: map[string]string{}}
	alice := oracle.Client{Way: oracle.Meshed, Address: netip.MustParseAddr("10.0.0.8"), Identity: "alice.ns.serviceaccount.identity.linkerd.cluster.local"}
	s.recording = history.Recording{Scenario: "story", Dialect: api.DialectDocumented, Budget: 100 * ms, Streams: []history.Stream{{
		Name: "alice", ClientKind: "meshed", Target: "app:http", Protocol: "http1", Connection: "fresh", Port: 8080, Rate: 100, Client: alice, Request: oracle.Request{Protocol: oracle.HTTP1}}},
		Proxies: []history.Proxy{{Pod: podOne}, {Pod: podTwo}}}
	for _, text := range objects {
		s.texts[key(t, text)] = text
	}
	s.recording.Base = s.world()
	for i := range s.recording.Proxies {
		s.recording.Proxies[i].World = s.recording.Base
	}
	return s
}

func key(t *testing.T, text string) string {
	t.Helper()
	kind, rest, ok := strings.Cut(text[strings.Index(text, "kind: ")+len("kind: "):], ",")
	name, _, _ := strings.Cut(rest[strings.Index(rest, "name: ")+len("name: "):], ",")
	if !ok {
		t.Fatalf("what is %s?", text)
	}
	return kind + " " + name
}

// world is that of the objects of now.
func (s *story) world() string {
	s.t.Helper()
	var all []string
	for _, text := range s.texts {
		all = append(all, text)
	}
	slices.Sort(all)
	set, err := objects.Read([]objects.Source{{Name: "story", Stream: strings.NewReader(strings.Join(all, "\n---\n"))}}, objects.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	var pods []*corev1.Pod
	for _, name := range []string{"app-1", "app-2"} {
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": "app", api.ControlPlaneLabel: "linkerd"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9090}}}}}})
	}
	w, err := history.NewWorld(api.DialectDocumented, set.World, pods)
	if err != nil {
		s.t.Fatal(err)
	}
	s.worlds[w.ID] = w
	s.at = w.ID
	return w.ID
}

// writes applies objects, or with a minus before their kind and name deletes them,
// at a moment, as one group; each takes two milliseconds.
func (s *story) writes(at time.Duration, texts ...string) *story {
	for i, text := range texts {
		w := history.Write{Step: "change", Group: 1 + len(s.recording.Writes) - i, Call: at + time.Duration(i)*2*ms, Verb: "applied"}
		w.Ack = w.Call + 2*ms
		if name, gone := strings.CutPrefix(text, "-"); gone {
			w.Verb = "deleted"
			delete(s.texts, name)
			text = name
		} else {
			s.texts[key(s.t, text)] = text
			text = key(s.t, text)
		}
		w.Kind, w.Name, _ = strings.Cut(text, " ")
		w.Namespace, w.World = "ns", s.world()
		s.recording.Writes = append(s.recording.Writes, w)
	}
	return s
}

// calls adds a request of alice's from at to at+2ms.
func (s *story) calls(at time.Duration, pod string, kind clients.Kind, change ...func(*history.Request)) *story {
	q := history.Request{Call: int64(len(s.recording.Requests) + 1), Start: at, End: at + 2*ms, Kind: kind, GRPCStatus: -1, Pod: pod, Delivered: -1}
	q.ID = fmt.Sprintf("alice-%d", q.Call)
	switch kind {
	case clients.Allowed:
		q.HTTPStatus, q.Delivered = 200, 1
	case clients.Forbidden:
		q.HTTPStatus, q.Delivered = 403, 0
	}
	for _, c := range change {
		c(&q)
	}
	s.recording.Requests = append(s.recording.Requests, q)
	return s
}

func delivered(n int) func(*history.Request) {
	return func(q *history.Request) { q.Delivered = n }
}

func took(d time.Duration) func(*history.Request) {
	return func(q *history.Request) { q.End = q.Start + d }
}

func (s *story) judge() *transition.Verdict {
	s.t.Helper()
	v, err := transition.Judge(&s.recording, s.worlds, oracle.DefaultRules())
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// found are the findings as "kind side ID".
func found(v *transition.Verdict) []string {
	out := []string{}
	for _, f := range v.Findings {
		out = append(out, fmt.Sprintf("%s %s %s", f.Kind, f.Side, f.ID))
	}
	return out
}

const (
	yes = clients.Allowed
	no  = clients.Forbidden
)

func TestEachRequestIsExplainedByAPolicyThatCanHaveBeenInForce(t *testing.T) {
	revoked := func(t *testing.T) *story { return tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice") }
	granted := func(t *testing.T) *story { return tell(t, server).writes(1000*ms, grant) }
	for name, row := range map[string]struct {
		story *story
		want  []string
	}{
		"a revocation":                         {revoked(t).calls(900*ms, podOne, yes).calls(1010*ms, podOne, yes).calls(1020*ms, podOne, no).calls(1200*ms, podOne, no), nil},
		"each proxy in its own time":           {revoked(t).calls(1010*ms, podOne, no).calls(1015*ms, podTwo, yes).calls(1200*ms, podTwo, no), nil},
		"a grant that leaks after its end":     {revoked(t).calls(1110*ms, podOne, yes), []string{"stale leak alice-1"}},
		"a grant that comes back":              {revoked(t).calls(1010*ms, podOne, no).calls(1020*ms, podOne, yes), []string{"backwards leak alice-2"}},
		"a denial before anybody wrote":        {revoked(t).calls(900*ms, podOne, no), []string{"impossible outage alice-1"}},
		"a leak before anybody granted":        {granted(t).calls(900*ms, podOne, yes), []string{"impossible leak alice-1"}},
		"a grant that does not come":           {granted(t).calls(1110*ms, podOne, no), []string{"stale outage alice-1"}},
		"an answer that nothing gives":         {granted(t).calls(1110*ms, podOne, clients.NotFound), []string{"impossible outage alice-1"}},
		"a denial of the wrong form":           {tell(t, server).calls(1*ms, podOne, clients.NotFound), []string{"impossible other alice-1"}},
		"a time-out where all is denied":       {tell(t, server).calls(1*ms, podOne, clients.Timeout), nil},
		"a time-out where all is allowed":      {tell(t, server, grant).calls(1*ms, podOne, clients.Timeout, took(5*time.Second)), nil},
		"a break after a long wait":            {tell(t, server, grant).calls(1*ms, podOne, clients.Reset, took(5*time.Second)), nil},
		"a connection that breaks for nothing": {tell(t, server, grant).calls(1*ms, podOne, clients.Reset), []string{"broken outage alice-1"}},
		"a break that tells of its delivery":   {tell(t, server).calls(1*ms, podOne, clients.Reset, delivered(1)), []string{"impossible leak alice-1"}},
		"denied and delivered":                 {tell(t, server).calls(1*ms, podOne, no, delivered(1)), []string{"denied-delivered leak alice-1"}},
		"allowed and never delivered":          {tell(t, server, grant).calls(1*ms, podOne, yes, delivered(0)), []string{"lost other alice-1"}},
		"delivered twice":                      {tell(t, server, grant).calls(1*ms, podOne, yes, delivered(2)), []string{"twice other alice-1"}},
		"nobody looked":                        {tell(t, server, grant).calls(1*ms, podOne, yes, delivered(-1)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := row.story.judge()
			if got := found(v); !slices.Equal(got, row.want) {
				t.Errorf("found %q, want %q", got, row.want)
			}
			if v.Failed() != (len(row.want) > 0) {
				t.Errorf("failed: %v", v.Failed())
			}
			for _, f := range v.Findings {
				if !strings.Contains(f.Text, f.ID) {
					t.Errorf("the text does not name the request: %s", f.Text)
				}
			}
		})
	}
}

func TestTheMiddleOfAGroupIsWhatAControllerCanSeeThatWatchesEachKindByItself(t *testing.T) {
	// The Server goes and a grant for it comes, at once: in between there is the
	// Server without the grant, and the grant without the Server.
	both := func() *story { return tell(t).writes(1000*ms, server, grant) }
	for name, row := range map[string]struct {
		story *story
		want  []string
	}{
		"the middle denies":                   {both().calls(900*ms, podOne, yes).calls(1003*ms, podOne, no).calls(1050*ms, podOne, yes), nil},
		"the middle can be seen more often":   {both().calls(1003*ms, podOne, no).calls(1020*ms, podOne, yes).calls(1030*ms, podOne, no).calls(1040*ms, podOne, yes), nil},
		"it is over when the budget is":       {both().calls(1110*ms, podOne, no), []string{"stale outage alice-1"}},
		"before it nothing of it is there":    {both().calls(990*ms, podOne, no), []string{"impossible outage alice-1"}},
		"one after the other has an order":    {tell(t).writes(1000*ms, server).writes(1050*ms, grant).calls(1010*ms, podOne, yes).calls(1060*ms, podOne, no).calls(1070*ms, podOne, yes), nil},
		"which is not gone through backwards": {tell(t).writes(1000*ms, server).writes(1050*ms, grant).calls(1010*ms, podOne, no).calls(1060*ms, podOne, yes).calls(1070*ms, podOne, no), []string{"backwards outage alice-3"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := found(row.story.judge()); !slices.Equal(got, row.want) {
				t.Errorf("found %q, want %q", got, row.want)
			}
		})
	}
}

func TestWhoseProxyIsUnknownIsHeldAgainstWhatSomePodExplains(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice").
		calls(1*ms, podOne, yes).calls(2*ms, podTwo, yes).
		calls(1010*ms, "", no).calls(1020*ms, "", yes).calls(1110*ms, "", yes)
	v := s.judge()
	if got, want := found(v), []string{"stale leak alice-5"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if v.Counts.Unattributed != 3 || v.Counts.Requests != 5 || v.Counts.Told != 5 {
		t.Errorf("counts are %+v", v.Counts)
	}
}

func TestWhileAProxyCannotBeToldTheOldPolicyIsRight(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice")
	s.recording.Faults = []history.Fault{{Name: "away", From: 950 * ms, To: 2000 * ms, Proxies: []string{podOne}}}
	s.calls(1500*ms, podOne, yes).calls(1500*ms, podTwo, yes).calls(2090*ms, podOne, yes).calls(2110*ms, podOne, yes)
	if got, want := found(s.judge()), []string{"stale leak alice-2", "stale leak alice-4"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestWhatIsDownNeedNotAnswerAndMustNotLeak(t *testing.T) {
	s := tell(t, server)
	s.texts[key(t, grant)] = grant
	s.recording.Base = s.world()
	s.recording.Faults = []history.Fault{{Name: "killed", From: 100 * ms, To: 200 * ms, Down: true}}
	s.calls(110*ms, podOne, clients.Reset).calls(130*ms, "", clients.Refused).calls(140*ms, podOne, no).calls(100*time.Second, podOne, clients.Reset)
	v := s.judge()
	if got, want := found(v), []string{"impossible outage alice-3", "broken outage alice-4"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if v.Counts.Broken != 3 || v.Counts.Unavailable != 2 || v.Counts.Gap != 22*ms {
		t.Errorf("counts are %+v", v.Counts)
	}
	s.recording.Outages = 2
	if s.judge().Failed() {
		t.Error("two outages are tolerated")
	}
}

func TestClocksThatMayBeWrongWidenIntervals(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice").calls(995*ms, podOne, no)
	if got := found(s.judge()); len(got) != 1 {
		t.Errorf("found %q", got)
	}
	s.recording.Slack = 5 * ms
	if got := found(s.judge()); len(got) != 0 {
		t.Errorf("with a slack that reaches the write: %q", got)
	}
}

func TestARetryTakesNoFindingBack(t *testing.T) {
	s := tell(t, server).calls(1*ms, podOne, yes).calls(4*ms, podOne, no).calls(7*ms, podOne, no)
	if v := s.judge(); v.Leaks() != 1 || v.Outages() != 0 || !v.Failed() {
		t.Errorf("found %q", found(v))
	}
}

func TestAProxysRecordIsHeldAgainstTheRulesToo(t *testing.T) {
	record := func(verdict, by string) func(*history.Request) {
		return func(q *history.Request) {
			q.Record = &history.Record{Verdict: verdict, Server: "server/http", Route: "default/default", Authorization: by}
		}
	}
	s := tell(t, server, grant).calls(1*ms, podOne, yes, record("allow", "serverauthorization/alice")).calls(4*ms, podOne, yes, record("allow", "serverauthorization/bob")).
		calls(7*ms, podOne, clients.Timeout, record("allow", "serverauthorization/alice")).calls(10*ms, podOne, clients.Timeout, record("allow", "serverauthorization/bob"))
	want := []string{"impossible other alice-2", "broken outage alice-3", "impossible other alice-4"}
	if got := found(s.judge()); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	nobody := tell(t, server, grant).calls(1*ms, podOne, yes, record("allow", "serverauthorization/alice")).calls(4*ms, podOne, yes, delivered(0)).
		calls(7*ms, podOne, yes, delivered(0), record("allow", "serverauthorization/alice"))
	if got, want := found(nobody.judge()), []string{"lost other alice-3"}; !slices.Equal(got, want) {
		t.Errorf("what neither witness has seen is no loss: %q, want %q", got, want)
	}
}

func TestWhileAnApplicationIsKilledOnlyWhatNobodyKnowsIsExcused(t *testing.T) {
	killed := history.Fault{Name: "killed", Kind: "app-killed", From: 20 * ms, To: 60 * ms, Proxies: []string{podOne}, Down: true}
	s := tell(t, server, grant).calls(10*ms, podOne, yes, delivered(-1)).calls(30*ms, podOne, yes, delivered(-1)).calls(90*ms, podOne, yes, delivered(0))
	s.recording.Faults = []history.Fault{killed}
	if got, want := found(s.judge()), []string{"lost other alice-3"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

func TestConnectionsAreCutByWhatRevokesThemAndByNothingElse(t *testing.T) {
	hold := func(port uint16, protocol oracle.Protocol, closed, last time.Duration) history.HoldSpan {
		h := history.HoldSpan{Name: "held", Target: "app:tcp", Port: port, Pod: podOne, Opened: 1 * ms, Closed: closed, LastEcho: last, Request: oracle.Request{Protocol: protocol}}
		if closed != 0 {
			h.How = clients.Reset
		}
		return h
	}
	for name, row := range map[string]struct {
		write string
		hold  history.HoldSpan
		want  []string
	}{
		"cut on revocation":             {"-ServerAuthorization raw", hold(9090, oracle.TCP, 1020*ms, 1010*ms), nil},
		"not cut on revocation":         {"-ServerAuthorization raw", hold(9090, oracle.TCP, 0, 1200*ms), []string{"overstayed leak held"}},
		"cut on an irrelevant edit":     {"-ServerAuthorization alice", hold(9090, oracle.TCP, 1020*ms, 1010*ms), []string{"cut outage held"}},
		"left alone by one":             {"-ServerAuthorization alice", hold(9090, oracle.TCP, 0, 1200*ms), nil},
		"a request that goes on":        {"-ServerAuthorization alice", hold(8080, oracle.HTTP1, 0, 1200*ms), nil},
		"a request that must not break": {"-ServerAuthorization alice", hold(8080, oracle.HTTP1, 1020*ms, 1010*ms), []string{"cut outage held"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, server, grant, opaque, raw).writes(1000*ms, row.write)
			row.hold.Client = s.recording.Streams[0].Client
			s.recording.Holds = []history.HoldSpan{row.hold}
			v := s.judge()
			if got := found(v); !slices.Equal(got, row.want) {
				t.Errorf("found %q, want %q", got, row.want)
			}
			if end := v.Ends[0]; name == "cut on revocation" && (end.Version != 1 || end.Low != 10*ms || end.High != 20*ms) {
				t.Errorf("it was cut by version %d between %s and %s", end.Version, end.Low, end.High)
			}
		})
	}
}

func TestAChangeIsMeasuredInBracketsByKindAndClass(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice").
		calls(990*ms, podOne, yes).calls(1010*ms, podOne, yes).calls(1020*ms, podOne, no).
		calls(1005*ms, podTwo, yes).calls(1040*ms, podTwo, yes).calls(1050*ms, podTwo, no)
	v := s.judge()
	var got []string
	for _, b := range v.Brackets {
		got = append(got, fmt.Sprintf("%s | %s | %s | %s to %s by %d", b.Transition, b.Class, b.Pod, b.Low, b.High, b.Informative))
	}
	want := []string{
		"ServerAuthorization deleted: allow→deny | meshed http1 fresh | ns/app-1 | 10ms to 22ms by 2",
		"ServerAuthorization deleted: allow→deny | meshed http1 fresh | ns/app-2 | 40ms to 52ms by 3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("brackets are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := []transition.Skew{{Write: 0, Stream: 0, Pods: 2, Low: 18 * ms, High: 42 * ms}}; !slices.Equal(v.Skews, want) {
		t.Errorf("skews are %+v, want %+v", v.Skews, want)
	}
	if rate := v.Rates[0]; rate.Planned != 100 || rate.Reached < 83.2 || rate.Reached > 83.4 {
		t.Errorf("five requests in 60 ms: %+v", rate)
	}
}

func TestABracketInWhichNobodyCalledMeasuresNothing(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice").
		calls(990*ms, podOne, yes).calls(1010*ms, podOne, yes).calls(1020*ms, podOne, no). // 22 ms wide
		calls(1010*ms, podTwo, yes).calls(1400*ms, podTwo, no)                             // it was away
	v := s.judge()
	if len(v.Brackets) != 2 || !v.Brackets[0].Measures() || v.Brackets[1].Measures() || len(v.Skews) != 0 {
		t.Errorf("brackets are %+v, skews %+v", v.Brackets, v.Skews)
	}
	if moved := v.Summary().Propagation; len(moved) != 1 || !slices.Equal(moved[0].High, []float64{22}) {
		t.Errorf("propagation is %+v", moved)
	}
}

func TestAWindowWithTooFewAnswersProvesNothing(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice")
	s.recording.Steps = []history.StepSpan{{Name: "change", From: 900 * ms, FirstWrite: 1000 * ms, InForce: 1050 * ms, To: 1200 * ms}}
	for i := range 8 {
		s.calls(900*ms+time.Duration(i)*10*ms, podOne, yes)
	}
	s.calls(1010*ms, podOne, yes).calls(1020*ms, podOne, no).calls(1045*ms, podOne, clients.Timeout)
	for i := range 4 {
		s.calls(1060*ms+time.Duration(i)*10*ms, podOne, no)
	}
	s.calls(1110*ms, podOne, yes) // stale, and wrong after the change
	v := s.judge()
	var got []string
	for _, phase := range transition.Phases() {
		w := v.Window("change", "alice", phase)
		got = append(got, fmt.Sprintf("%s: %d requests, %d seen, %d telling, %d/%d/%d, %d wrong from %d, findings %v, enough %v", phase, w.Requests, w.Seen, w.Telling, w.Allowed, w.Denied, w.Other, w.Wrong, w.First, w.Findings, w.Enough()))
	}
	want := []string{
		"before: 8 requests, 8 seen, 8 telling, 8/0/0, 0 wrong from -1, findings [], enough true",
		"during: 8 requests, 7 seen, 7 telling, 2/5/1, 0 wrong from -1, findings [0], enough true",
		"after: 5 requests, 5 seen, 5 telling, 1/4/0, 1 wrong from 15, findings [0], enough true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("windows are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if w := v.Window("change", "bob", transition.Before); w != nil {
		t.Errorf("there is no such stream: %+v", w)
	}
	s.recording.Requests = s.recording.Requests[:12]
	if w := s.judge().Window("change", "alice", transition.After); w.Enough() {
		t.Errorf("a window with one answer is enough: %+v", w)
	}
}

func TestAClientThatIsNotYetToldThatAPortIsOpaqueFindsNoRoute(t *testing.T) {
	open := strings.Replace(server, "proxyProtocol: HTTP/1", "accessPolicy: all-unauthenticated", 1)
	closed := strings.Replace(server, "proxyProtocol: HTTP/1", "proxyProtocol: opaque, accessPolicy: all-unauthenticated", 1)
	s := tell(t, open).writes(1000*ms, closed).calls(900*ms, podOne, yes).calls(1010*ms, podOne, clients.NotFound).calls(1020*ms, podOne, yes)
	if got := found(s.judge()); len(got) != 0 {
		t.Errorf("while the client is being told: %q", got)
	}
	s.calls(1200*ms, podOne, clients.NotFound).calls(900*ms, podOne, clients.NotFound)
	if got, want := found(s.judge()), []string{"impossible outage alice-5", "impossible outage alice-4"}; !slices.Equal(got, want) {
		t.Errorf("before it and once the budget is spent: %q, want %q", got, want)
	}
}

func TestWhatWasInForceIsOverForTheOldPolicy(t *testing.T) {
	s := tell(t, server, grant).writes(1000*ms, "-ServerAuthorization alice").calls(1030*ms, podOne, yes).calls(1030*ms, podTwo, yes)
	if got := found(s.judge()); len(got) != 0 {
		t.Errorf("within the budget: %q", got)
	}
	s.recording.Writes[0].InForce = []history.InForce{{Pod: podOne, Port: 8080, At: 1020 * ms}}
	if got, want := found(s.judge()), []string{"stale leak alice-1"}; !slices.Equal(got, want) {
		t.Errorf("at a proxy that goes by it: %q, want %q", got, want)
	}
}
