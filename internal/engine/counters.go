package engine

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// The counters that a decision raises (M-06); decisionCounters lists them.
const (
	httpAllowed = "inbound_http_authz_allow_total"
	httpDenied  = "inbound_http_authz_deny_total"
	notFound    = "inbound_http_route_not_found_total"
	limited     = "inbound_http_local_ratelimit_total"
	tcpAllowed  = "inbound_tcp_authz_allow_total"
	tcpDenied   = "inbound_tcp_authz_deny_total"
)

var decisionCounters = []string{httpAllowed, httpDenied, notFound, limited, tcpAllowed, tcpDenied}

// rise is one increment of a counter that a verdict asks for.
type rise struct {
	counter string
	labels  map[string]string
	// without are labels that the series must not have (M-07).
	without []string
}

// key tells rises of one series from others.
func (r rise) key() string {
	var parts []string
	for _, name := range sorted(r.labels) {
		parts = append(parts, name+"="+r.labels[name])
	}
	return r.counter + "{" + strings.Join(parts, ",") + "}"
}

// rises are the increments that a proxy owes one call (M-01 to M-07, M-11). Where
// it is open which authorization gets the credit, none is asked for by
// name.
func rises(v oracle.Verdict, client oracle.Client, seen clients.Kind, port int, credited bool) []rise {
	label := func(into map[string]string, prefix string, l oracle.Label) {
		into[prefix+"_group"], into[prefix+"_kind"], into[prefix+"_name"] = l.Group, l.Kind, l.Name
	}
	labels := map[string]string{"srv_port": strconv.Itoa(port)}
	label(labels, "srv", v.Server)
	labels["tls"], labels["client_id"] = v.TLS, ""
	if v.TLS == "true" && !client.Self {
		labels["client_id"] = client.Identity
	}
	authorized := v.Authorization != oracle.Label{}
	if authorized && credited {
		label(labels, "authz", v.Authorization)
	}
	if v.Route != (oracle.Label{}) {
		label(labels, "route", v.Route)
	}
	noRoute, noAuthz := []string{"route_kind", "route_name"}, []string{"authz_kind", "authz_name"}
	switch v.Course {
	case oracle.AsHTTP:
		switch {
		case authorized && seen == clients.Limited:
			of := maps.Clone(labels)
			maps.DeleteFunc(of, func(name, _ string) bool { return strings.HasPrefix(name, "authz_") })
			label(of, "ratelimit", v.Limits[0].Policy)
			return []rise{{httpAllowed, labels, nil}, {limited, of, noAuthz}}
		case authorized:
			return []rise{{httpAllowed, labels, nil}}
		case v.Outcome == oracle.Forbidden || v.Outcome == oracle.PermissionDenied:
			return []rise{{httpDenied, labels, noAuthz}}
		default:
			return []rise{{notFound, labels, slices.Concat(noRoute, noAuthz)}}
		}
	case oracle.AsTCP:
		if port == api.AdminPort {
			return nil // the proxy closes what is not HTTP before it asks (B-05)
		}
		if authorized {
			return []rise{{tcpAllowed, labels, noRoute}}
		}
		return []rise{{tcpDenied, labels, slices.Concat(noRoute, noAuthz)}}
	case oracle.Refuse:
		if history.NoList(v) {
			return []rise{{tcpDenied, labels, slices.Concat(noRoute, noAuthz)}}
		}
	}
	return nil
}

// owed is what a batch of calls owes one counter.
type owed struct {
	rise
	component string
	calls     int
	judges    []*callJudge
}

// compareCounters holds what the proxies have counted against what the verdicts
// of a batch say: at least that, and exactly that where nobody else calls. A
// difference is a finding on the claims concerned.
func (s *scenarioRun) compareCounters(batch []*callJudge, logs map[string][]*witnessLog, base *baseline) {
	byKey := map[string]*owed{}
	loose := map[string]bool{}
	for component := range logs {
		loose[component] = s.alsoCalled(component, base)
	}
	for _, one := range batch {
		component := one.target.Component
		if one.verdict.outcome != result.Passed || len(one.rulings) != len(one.outcomes) {
			loose[component] = true // what it has been counted as is not known
			continue
		}
		for i, said := range one.rulings {
			for _, r := range rises(said.verdict, said.question.Client, one.outcomes[i].Kind, one.target.Port, one.oracle.Dialect.NamedCreditedFirst) {
				key := component + " " + r.key()
				if byKey[key] == nil {
					byKey[key] = &owed{rise: r, component: component}
				}
				byKey[key].calls++
				byKey[key].judges = append(byKey[key].judges, one)
			}
		}
	}
	pages := map[string][2]*counterPages{}
	for component, list := range logs {
		if before, after, ok := readCounters(list); ok {
			pages[component] = [2]*counterPages{before, after}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		one := byKey[key]
		page, known := pages[one.component]
		if !known {
			continue
		}
		grew := page[1].sum(one.rise) - page[0].sum(one.rise)
		atLeast := loose[one.component] || one.judges[0].target.Port == api.AdminPort
		if grew == float64(one.calls) || atLeast && grew > float64(one.calls) {
			continue
		}
		for _, judge := range one.judges {
			if judge.verdict.outcome == result.Passed {
				judge.verdict.outcome = result.Failed
				judge.verdict.reason = fmt.Sprintf("%d calls were made that count as %s, and it grew by %v", one.calls, one.key(), grew)
			}
		}
	}
}

// alsoCalled says whether anybody but the batch may call a component.
func (s *scenarioRun) alsoCalled(component string, base *baseline) bool {
	w, _, ok := s.planned.Component(component)
	if !ok || w.Readiness+w.Liveness != "" || w.Declares() || len(w.Components()) > 1 || len(s.streams)+len(s.held) > 0 || s.recorder != nil {
		return true // probes, its own neighbours, streams
	}
	return slices.ContainsFunc(base.step.Claims, func(c *scenarios.PlannedClaim) bool {
		return c.Claim.Within > 0 || c.Call == nil && c.Claim.Policy == nil
	})
}

// counterPages are the parsed metrics of a component's pods.
type counterPages struct {
	families []map[string]*dto.MetricFamily
}

// linesOf are the lines of a page of metrics that tell of these families. The page
// of a proxy is long, and two of them are read for every batch of calls.
func linesOf(page []byte, families []string) []byte {
	var kept []byte
	for line := range bytes.Lines(page) {
		name := bytes.TrimPrefix(bytes.TrimPrefix(line, []byte("# TYPE ")), []byte("# HELP "))
		if end := bytes.IndexAny(name, "{ "); end >= 0 && slices.Contains(families, string(name[:end])) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// readCounters parses what was read before the calls and after them; ok is false
// where a proxy could not be asked, or there is none.
func readCounters(logs []*witnessLog) (before, after *counterPages, ok bool) {
	before, after = &counterPages{}, &counterPages{}
	for _, log := range logs {
		if log.err != nil || !log.meshed {
			return nil, nil, false
		}
		for i, page := range []*counterPages{before, after} {
			parser := expfmt.NewTextParser(model.UTF8Validation)
			families, err := parser.TextToMetricFamilies(bytes.NewReader(linesOf(log.counted[i], decisionCounters)))
			if err != nil {
				return nil, nil, false
			}
			page.families = append(page.families, families)
		}
	}
	return before, after, len(logs) > 0
}

// sum adds up the series that are meant.
func (p *counterPages) sum(r rise) float64 {
	total := 0.0
	for _, families := range p.families {
		for _, metric := range families[r.counter].GetMetric() {
			has := map[string]string{}
			for _, pair := range metric.Label {
				has[pair.GetName()] = pair.GetValue()
			}
			fits := true
			for name, value := range r.labels {
				fits = fits && has[name] == value
			}
			for _, name := range r.without {
				fits = fits && has[name] == ""
			}
			if fits {
				total += metric.GetCounter().GetValue() + metric.GetUntyped().GetValue()
			}
		}
	}
	return total
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
