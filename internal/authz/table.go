package authz

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Row is one line of the table: what one authorization let through, or, with
// an empty Authorization, what one server refused. Rates are per second.
type Row struct {
	Route         string  `json:"route"`
	Server        string  `json:"server"`
	Authorization string  `json:"authorization"`
	Unauthorized  float64 `json:"unauthorized"`
	// Success is the share of successful answers, 0 to 1, 0 without answers.
	Success float64 `json:"success"`
	RPS     float64 `json:"rps"`
	// Latencies are in milliseconds.
	P50 float64 `json:"latency_ms_p50"`
	P95 float64 `json:"latency_ms_p95"`
	P99 float64 `json:"latency_ms_p99"`
	// Idle marks a row that saw no traffic within the window (V-07).
	Idle bool `json:"idle,omitempty"`
}

// Answer is what the scraper replies: rows, and how far they can be trusted.
type Answer struct {
	Window string `json:"window"`
	Rows   []Row  `json:"rows"`
	// Beyond is what Linkerd's own table leaves out.
	Beyond  []Beyond `json:"beyond,omitempty"`
	Scrapes []Scrape `json:"scrapes"`
}

// group is what a row stands for; kinds are part of it, because a Server may
// bear the name of a default policy.
type group struct{ routeKind, route, serverKind, server, authzKind, authz string }

type counts struct {
	success, failure, denied float64
	buckets                  map[float64]float64
}

// Table computes the rows for some pods (namespace/name) over the window that
// ends now.
func (s *Store) Table(pods []string, now time.Time, window time.Duration) Answer {
	increases, scrapes := s.increases(pods, now, window)
	groups := map[group]*counts{}
	for id, inc := range increases {
		if name, _, _ := strings.Cut(string(id), "{"); beyond[name] != "" {
			continue // for the other table
		}
		l := inc.labels
		key := group{l["route_kind"], l["route_name"], l["srv_kind"], l["srv_name"], l["authz_kind"], l["authz_name"]}
		if key.server == "" {
			continue // not an answer that policy decided
		}
		c := groups[key]
		if c == nil {
			c = &counts{buckets: map[float64]float64{}}
			groups[key] = c
		}
		switch name, _, _ := strings.Cut(string(id), "{"); {
		case name == denyTotal:
			c.denied += inc.by
		case name == latencyBucket:
			if bound, err := strconv.ParseFloat(l[upperBoundLabel], 64); err == nil {
				c.buckets[bound] += inc.by
			}
		case l[classification] == "success":
			c.success += inc.by
		default:
			c.failure += inc.by
		}
	}
	answer := Answer{Window: window.String(), Rows: []Row{}, Beyond: beyondOf(increases, window), Scrapes: scrapes}
	for key, c := range groups {
		answered := c.success + c.failure
		row := Row{Route: key.route, Server: key.server, Authorization: key.authz, Unauthorized: c.denied / window.Seconds(), RPS: answered / window.Seconds(),
			P50: quantile(0.50, c.buckets), P95: quantile(0.95, c.buckets), P99: quantile(0.99, c.buckets), Idle: answered+c.denied == 0}
		if key.serverKind == "default" {
			row.Server = "default:" + key.server
		}
		if key.authz != "" {
			row.Authorization = key.authzKind + "/" + key.authz
		}
		if answered > 0 {
			row.Success = c.success / answered
		}
		if row.Idle && (key.authzKind == "" || key.authzKind == "default") {
			continue
		}
		answer.Rows = append(answer.Rows, row)
	}
	slices.SortFunc(answer.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Authorization, b.Authorization))
	})
	return answer
}

// quantile interpolates within the bucket that holds it, as Prometheus'
// histogram_quantile does; 0 when nothing was counted.
func quantile(q float64, cumulative map[float64]float64) float64 {
	bounds := make([]float64, 0, len(cumulative))
	for bound := range cumulative {
		bounds = append(bounds, bound)
	}
	slices.Sort(bounds)
	if len(bounds) == 0 || cumulative[bounds[len(bounds)-1]] == 0 {
		return 0
	}
	rank := q * cumulative[bounds[len(bounds)-1]]
	lower, below := 0.0, 0.0
	for _, bound := range bounds {
		if cumulative[bound] >= rank {
			if math.IsInf(bound, 1) {
				return lower
			}
			return lower + (bound-lower)*(rank-below)/(cumulative[bound]-below)
		}
		lower, below = bound, cumulative[bound]
	}
	return lower
}

// Write prints the table with the columns and formats of V-01 to V-06, then what
// that table leaves out, then a line for each pod that could not be read.
func (a Answer) Write(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "ROUTE\tSERVER\tAUTHORIZATION\tUNAUTHORIZED\tSUCCESS\tRPS\tLATENCY_P50\tLATENCY_P95\tLATENCY_P99")
	for _, r := range a.Rows {
		if r.Idle {
			fmt.Fprintf(out, "%s\t%s\t%s\t-\t-\t-\t-\t-\t-\n", r.Route, r.Server, r.Authorization)
			continue
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%.1frps\t%.2f%%\t%.1frps\t%.0fms\t%.0fms\t%.0fms\n",
			r.Route, r.Server, r.Authorization, r.Unauthorized, r.Success*100, r.RPS, r.P50, r.P95, r.P99)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := a.writeBeyond(w); err != nil {
		return err
	}
	for _, scrape := range a.Scrapes {
		if scrape.Error != "" {
			fmt.Fprintf(w, "%s could not be read: %s\n", scrape.Pod, scrape.Error)
		}
	}
	return nil
}
