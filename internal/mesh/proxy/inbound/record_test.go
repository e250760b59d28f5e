package inbound

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// recorder is a server that decides without connections.
func recorder(t *testing.T) (*Server, *session, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	s := &Server{cfg: Config{Metrics: NewMetrics(registry), Decisions: &Decisions{}}, log: newPolicyLog(slog.New(slog.DiscardHandler))}
	sess := &session{server: s, dst: netip.MustParseAddrPort("10.0.0.9:8080")}
	sess.client = policy.Client{Addr: netip.MustParseAddrPort("10.0.0.1:999"), TLS: policy.Terminated, Identity: webName}
	sess.cell = newCell(8080, nil)
	return s, sess, registry
}

// summed adds up the rows of a counter by the value of one label.
func summed(t *testing.T, registry *prometheus.Registry, name, label string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					sums[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sums
}

// M-06, M-07: what is decided on a connection is counted once and recorded once.
func TestEachConnectionIsCountedAndRecordedOnce(t *testing.T) {
	s, sess, registry := recorder(t)
	port, err := policy.Parse(server(opaque(), identities(t, "web", webName)), policy.Dialect{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sess.cell.put(port)
	snap := sess.cell.current.Load()
	s.allowed(sess, snap, port.Connection(sess.client))
	s.denied(sess, snap)
	s.terminated(sess, snap)
	for name, label := range map[string]string{
		"inbound_tcp_authz_allow_total": "authz_name", "inbound_tcp_authz_deny_total": "srv_name", "inbound_tcp_authz_terminate_total": "srv_name",
	} {
		want := map[string]float64{"srv": 1}
		if label == "authz_name" {
			want = map[string]float64{"web": 1}
		}
		if diff := cmp.Diff(want, summed(t, registry, name, label)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	var verdicts []string
	for _, d := range s.cfg.Decisions.List(DecisionFilter{}).Decisions {
		verdicts = append(verdicts, d.Verdict+" "+d.Server+" "+d.Authorization)
	}
	if diff := cmp.Diff([]string{"allow server/srv serverauthorization/web", "deny server/srv ", "terminate server/srv "}, verdicts); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// An answer whose transfer broke off is told apart from one with the same status that did not.
func TestAnswersOfOneStatusAreCountedByWhatBecameOfThem(t *testing.T) {
	s, sess, registry := recorder(t)
	c := &call{sess: sess, start: time.Now(), made: policy.Decision{Permit: &policy.Permit{}}}
	s.answered(c, 500, -1, nil)
	s.answered(c, 500, -1, errors.New("broken off"))
	s.answered(c, 500, -1, nil)
	got := summed(t, registry, "response_total", "error")
	if diff := cmp.Diff(map[string]float64{"": 2, "unclassified": 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// M-07, M-09, M-11: a request is counted once, where its verdict belongs, and
// recorded with the verdict.
func TestEachRequestIsCountedAndRecordedByItsVerdict(t *testing.T) {
	s, sess, registry := recorder(t)
	port, err := policy.Parse(server(http1Protocol(
		httpRoute("open", []string{"/open"}, identities(t, "web", webName)),
		httpRoute("private", []string{"/private"}, identities(t, "other", otherName)),
	)), policy.Dialect{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sess.cell.put(port)
	for _, path := range []string{"/open", "/private", "/private/more", "/none", "/a%2fb"} {
		c := &call{sess: sess, snap: sess.cell.current.Load(), start: time.Now(), http1: true, head: &policy.Head{Method: []byte("GET"), Path: []byte(path)}}
		s.judge(c)
	}
	var records []string
	for _, d := range s.cfg.Decisions.List(DecisionFilter{}).Decisions {
		records = append(records, d.Verdict+" "+d.Path+" "+d.Route+" "+d.Authorization)
	}
	if diff := cmp.Diff([]string{
		"allow /open HTTPRoute/open serverauthorization/web", "deny /private HTTPRoute/private ", "deny /private/more HTTPRoute/private ",
		"not-found /none  ", "ambiguous /a%2fb  ",
	}, records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	for name, want := range map[string]map[string]float64{
		"inbound_http_authz_allow_total": {"open": 1}, "request_total": {"open": 1}, "inbound_http_authz_deny_total": {"private": 2},
	} {
		if diff := cmp.Diff(want, summed(t, registry, name, "route_name")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(map[string]float64{"srv": 2}, summed(t, registry, "inbound_http_route_not_found_total", "srv_name")); diff != "" {
		t.Errorf("no route (-want +got):\n%s", diff)
	}
	sess.labels.release()
	sess.labels.refused(s.cfg.Metrics, sess, denial{verdict: policy.Deny, server: port.Server})
	if got := summed(t, registry, "inbound_http_authz_deny_total", "route_name")[""]; got != 1 {
		t.Errorf("counted %v after the connection's end", got)
	}
}
