package engine

import (
	"cmp"
	"context"
	"math"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/scenarios"
)

// unknown is how often a request was delivered of which nobody can tell.
const unknown = -1

// matchSlack is how far the time of a decision may lie outside a call that it is
// matched to by time, beside what is known of the clocks: what two processes of one
// machine can differ by when they read one clock.
const matchSlack = time.Millisecond

// witness is what the proxy and the application of one pod have recorded of the
// scenario's streams.
type witness struct {
	pod       types.NamespacedName
	component string
	echo      bool
	// clock is that of the pod's node.
	clock clock
	// place among the recording's proxies.
	place int
	// sinceProxy and sinceEcho are how far the rings were read, and asked is when
	// they were asked last with success: what was recorded until then is known.
	sinceProxy, sinceEcho int64
	asked                 time.Duration
	// proxyBegan and echoBegan are when these rings began: processes that are
	// started again have others.
	proxyBegan, echoBegan time.Time
	// blind are the intervals of which the application's log died with it.
	blind []interval
	// missed says that some of what the application got is not known, and gone that
	// the pod is not there any more.
	missed, gone bool
	// decided are decisions by the request's ID, and connections those about which
	// no ID is known, in order.
	decided     map[string]*decision
	connections []*decision
	// requests and lines count what the application got of each ID.
	requests, lines map[string]int
}

// interval is a time of the recording.
type interval struct{ from, to time.Duration }

// blindTo says whether what the application got of a request may have died with
// its log.
func (w *witness) blindTo(one *history.Request) bool {
	return slices.ContainsFunc(w.blind, func(i interval) bool { return one.End > i.from && one.Start <= i.to })
}

// anew says whether a ring is that of another process than the one that was read up
// to a number: its numbers begin anew.
func anew(known, began time.Time, since, last int64) bool {
	return last < since || !known.IsZero() && !began.IsZero() && !known.Equal(began)
}

// read takes over what streams, proxies and applications have recorded since the
// last time, and says of each request who answered it.
func (r *recorder) read(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	if err := r.take(ctx, r.flows, 0); err != nil {
		return err
	}
	// What was answered until now is recorded by now.
	if err := r.look(ctx); err != nil {
		return err
	}
	group := newGroup()
	for _, w := range r.witnesses {
		if w.gone {
			continue
		}
		group.do(func() error { return r.ask(ctx, w) })
	}
	err := group.wait()
	r.placeAll()
	return err
}

// look finds the pods that the streams lead to, and notes which are new and which
// have gone.
func (r *recorder) look(ctx context.Context) error {
	there := map[types.UID]bool{}
	for name := range r.components {
		w, _, _ := r.s.planned.Component(name)
		namespace, match, _ := r.s.selects(name)
		// One that is on its way out may have come and answered since the last time.
		for _, pod := range append(r.s.componentPods(name), r.s.e.pods.departing(namespace, match)...) {
			there[pod.UID] = pod.DeletionTimestamp == nil
			if r.witnesses[pod.UID] != nil || pod.Status.PodIP == "" || !running(pod) {
				continue
			}
			if err := r.meet(ctx, pod, name, w.Kind == scenarios.Echo || tells(pod)); err != nil {
				return err
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, w := range r.witnesses {
		if proxy := &r.rec.Proxies[w.place]; !there[uid] && proxy.Gone == 0 {
			proxy.Gone = r.now()
		}
	}
	return nil
}

// running says whether all containers of a pod are.
func running(pod *corev1.Pod) bool {
	return len(pod.Status.ContainerStatuses) > 0 && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running == nil })
}

// meet notes a pod that was not there before.
func (r *recorder) meet(ctx context.Context, pod *corev1.Pod, component string, echo bool) error {
	world, err := r.keep(ctx, r.world.current())
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one := history.Proxy{Pod: nameOf(pod).String(), World: world}
	if at := r.s.e.pods.seenFirst(pod); at.After(r.rec.Began) {
		one.Born = r.since(at)
	}
	r.witnesses[pod.UID] = &witness{pod: nameOf(pod), component: component, echo: echo, place: len(r.rec.Proxies), sinceProxy: unread, sinceEcho: unread,
		decided: map[string]*decision{}, requests: map[string]int{}, lines: map[string]int{}}
	r.rec.Proxies = append(r.rec.Proxies, one)
	return nil
}

// unread is how far the rings of a pod were read that nobody has asked.
const unread = -1

// ask reads the rings of a pod. One that has gone is left alone from then on.
func (r *recorder) ask(ctx context.Context, w *witness) error {
	pod, there := r.s.e.pods.get(w.pod)
	if !there {
		w.gone = true
		return nil
	}
	if r.s.stopped(w.pod, scenarios.ProxyPaused) {
		return nil // it answers nobody before it goes on
	}
	ctx, cancel := context.WithTimeout(ctx, ringBudget)
	defer cancel()
	asked := r.now()
	page, err := r.decided(ctx, pod, w)
	if err != nil {
		return r.excused(pod, err)
	}
	w.sinceProxy, w.proxyBegan = page.Last, page.Began
	for i := range page.Decisions {
		d := &page.Decisions[i]
		switch {
		case !r.concerned(d.TargetPort):
		case d.RequestID != "":
			w.decided[d.RequestID] = d
		default:
			w.connections = append(w.connections, d)
		}
	}
	if !w.echo {
		w.asked = asked
		return nil
	}
	if r.s.stopped(w.pod, scenarios.AppPaused) {
		return nil
	}
	list, err := r.got(ctx, w)
	if err != nil {
		return r.excused(pod, err)
	}
	w.asked, w.missed = asked, w.missed || list.Missed > 0
	w.sinceEcho, w.echoBegan = list.Last, list.Began
	for _, d := range list.Deliveries {
		switch d.Event {
		case "request":
			w.requests[d.ID]++
		case "line":
			w.lines[d.ID]++
		}
	}
	return nil
}

// decided reads what a pod's proxy has decided since the last time.
func (r *recorder) decided(ctx context.Context, pod *corev1.Pod, w *witness) (page decisions, err error) {
	switch {
	case !meshed(pod):
		page.Last = w.sinceProxy
		return page, nil
	case w.sinceProxy == unread:
		w.sinceProxy = 0
		w.clock = readClock(func() (time.Time, error) {
			page, err = r.s.e.decisionsSince(ctx, w.pod, math.MaxInt64, 0)
			return page.Now, err
		})
	}
	page, err = r.s.e.decisionsSince(ctx, w.pod, w.sinceProxy, 0)
	if err == nil && w.sinceProxy > 0 && anew(w.proxyBegan, page.Began, w.sinceProxy, page.Last) {
		page, err = r.s.e.decisionsSince(ctx, w.pod, 0, 0)
	}
	return page, err
}

// got reads what a pod's application got since the last time. Where it is another
// process, what the one before got since then is known to nobody.
func (r *recorder) got(ctx context.Context, w *witness) (deliveries, error) {
	since := max(w.sinceEcho, 0)
	list, err := r.s.e.deliveriesSince(ctx, w.pod, since)
	if err != nil || !anew(w.echoBegan, list.Began, since, list.Last) {
		return list, err
	}
	if since > 0 {
		if list, err = r.s.e.deliveriesSince(ctx, w.pod, 0); err != nil {
			return list, err
		}
	}
	w.blind = append(w.blind, interval{w.asked, r.logBegan(w, list.Began)})
	return list, nil
}

// logBegan is when the log of a new process did at the latest.
func (r *recorder) logBegan(w *witness, began time.Time) time.Duration {
	if began.IsZero() {
		return r.now()
	}
	return r.since(w.clock.local(began)) + w.clock.slack + matchSlack
}

// ringBudget is for reading the rings of a pod: one that has stopped must not hold
// up the others.
const ringBudget = 5 * time.Second

// excused forgives that a pod does not answer that is on its way out, is not ready,
// or is kept from it by a fault.
func (r *recorder) excused(pod *corev1.Pod, err error) error {
	if pod.DeletionTimestamp != nil || !ready(pod) || r.s.downed(nameOf(pod)) {
		return nil
	}
	return err
}

// concerned says whether a stream leads to the port.
func (r *recorder) concerned(port int) bool {
	return slices.ContainsFunc(r.flows, func(f *flow) bool { return f.target.Port == port })
}

// placeAll says of the requests that came since the last time who answered them.
// Those about which a pod that is there could still tell more wait.
func (r *recorder) placeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var witnesses []*witness
	for _, w := range r.witnesses {
		witnesses = append(witnesses, w)
	}
	slices.SortFunc(witnesses, func(a, b *witness) int { return cmp.Compare(a.place, b.place) })
	// The quickest first: what is left then is that of those which took longer.
	lasted := func(u unplaced) time.Duration { return r.rec.Requests[u.place].End - r.rec.Requests[u.place].Start }
	slices.SortFunc(r.unplaced, func(a, b unplaced) int { return cmp.Compare(lasted(a), lasted(b)) })
	waiting := r.unplaced[:0]
	for _, u := range r.unplaced {
		one := &r.rec.Requests[u.place]
		there := slices.DeleteFunc(slices.Clone(witnesses), func(w *witness) bool { return !r.there(w, one) })
		if slices.ContainsFunc(there, func(w *witness) bool { return !w.gone && w.asked < one.End }) {
			waiting = append(waiting, u)
			continue
		}
		r.placed(u, one, there)
	}
	r.unplaced = waiting
}

// there says whether the pod was there while a request was under way. One that tells
// of a later moment was.
func (r *recorder) there(w *witness, one *history.Request) bool {
	proxy := r.rec.Proxies[w.place]
	return w.component == r.flows[one.Stream].target.Component && proxy.Born <= one.End && (proxy.Gone == 0 || proxy.Gone+goneSlack >= one.Start || w.asked >= one.End)
}

// goneSlack is how long a pod may serve on after its deletion has begun.
const goneSlack = time.Duration(graceSeconds)*time.Second + readEvery

// placed says who answered a request: the proxy that has a decision with the
// request's ID, the pod whose application got it, or for connections, of which
// proxies know no ID, by address and time.
func (r *recorder) placed(u unplaced, one *history.Request, witnesses []*witness) {
	var by *witness
	var record *decision
	delivered, known := 0, len(witnesses) > 0
	for _, w := range witnesses {
		if found := w.decided[one.ID]; found != nil && record == nil {
			by, record = w, found
			delete(w.decided, one.ID)
		}
		known = known && w.echo && !w.missed && w.asked >= one.End && !w.blindTo(one)
	}
	for _, w := range witnesses {
		count := w.requests[one.ID]
		if count == 0 {
			count = w.lines[one.ID]
		}
		if count > 0 && by == nil {
			by = w
		}
		delivered += count
	}
	if (known || delivered > 0) && u.flow.spec.Protocol != scenarios.TCPSilent && u.flow.target.Port != adminPort {
		one.Delivered = delivered
	}
	if record == nil {
		by, record = r.connection(u, one, by, witnesses)
	}
	if by != nil {
		one.Pod = by.pod.String()
	}
	if record != nil {
		one.Hash = record.Hash
		one.Record = &history.Record{Verdict: record.Verdict, Protocol: record.Protocol, Server: record.Server, Route: record.Route, Authorization: record.Authorization}
	}
}

// connection finds the decision about a connection. A client without a proxy is
// known by its own address. Of one that comes through a proxy only the pod is known,
// and the time of the call: of several decisions that fit, one that is as the answer
// was, and none where no such one is. Where it is known which pod got the call, only
// that one's decisions count.
func (r *recorder) connection(u unplaced, one *history.Request, by *witness, witnesses []*witness) (*witness, *decision) {
	proxied := u.flow.from.proxied()
	ip, _, _ := net.SplitHostPort(u.local)
	if proxied {
		ip = u.flow.from.address.String()
	}
	var at *witness
	place, fitting, alike := 0, 0, false
	for _, w := range witnesses {
		if by != nil && by != w {
			continue
		}
		slack := matchSlack + u.flow.from.clock.slack + w.clock.slack
		for i, d := range w.connections {
			when := r.since(w.clock.local(d.Time))
			host, _, _ := net.SplitHostPort(d.Client)
			if d.TargetPort != u.flow.target.Port || host != ip || !proxied && d.Client != u.local || when < one.Start-slack || when > one.End+slack || d.Verdict == "terminate" {
				continue
			}
			fitting++
			if like := (d.Verdict == "allow") == (one.Kind == clients.Allowed || one.Delivered > 0); at == nil || like && !alike {
				at, place, alike = w, i, like
			}
		}
	}
	if at == nil || fitting > 1 && !alike {
		return by, nil
	}
	found := at.connections[place]
	at.connections = slices.Delete(at.connections, place, place+1)
	return at, found
}
