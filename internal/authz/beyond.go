package authz

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Beyond is one line about what Linkerd's own table leaves out (V-08): what was
// found nowhere, limited, allowed for the audit alone, or is no HTTP.
type Beyond struct {
	Outcome string `json:"outcome"`
	Server  string `json:"server"`
	Route   string `json:"route,omitempty"`
	// By is the authorization or the rate limit that had its way.
	By string `json:"by,omitempty"`
	// Count is of the window, Rate per second.
	Count float64 `json:"count"`
	Rate  float64 `json:"rate"`
}

// beyond has a row for each metric that the second table is made of.
var beyond = map[string]string{
	"inbound_http_authz_allow_total":     "audited",
	"inbound_http_route_not_found_total": "no route",
	"inbound_http_local_ratelimit_total": "rate limited",
	"inbound_tcp_authz_allow_total":      "TCP allowed",
	"inbound_tcp_authz_deny_total":       "TCP denied",
	"inbound_tcp_authz_terminate_total":  "TCP terminated",
}

// beyondOf are the lines with traffic; those that differ in labels that are not
// shown are summed up.
func beyondOf(increases map[series]increase, window time.Duration) []Beyond {
	sums := map[Beyond]float64{}
	for id, inc := range increases {
		name, _, _ := strings.Cut(string(id), "{")
		outcome := beyond[name]
		l := inc.labels
		if outcome == "" || inc.by == 0 || outcome == "audited" && (l["authz_kind"] != "default" || l["authz_name"] != "audit") {
			continue
		}
		line := Beyond{Outcome: outcome, Server: serverCell(l), Route: l["route_name"]}
		switch {
		case l["ratelimit_name"] != "":
			line.By = fmt.Sprintf("%s/%s (%s)", l["ratelimit_kind"], l["ratelimit_name"], l["ratelimit_scope"])
		case l["authz_name"] != "":
			line.By = l["authz_kind"] + "/" + l["authz_name"]
		}
		sums[line] += inc.by
	}
	var lines []Beyond
	for line, count := range sums {
		line.Count, line.Rate = count, count/window.Seconds()
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b Beyond) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Route, b.Route), cmp.Compare(a.By, b.By))
	})
	return lines
}

// serverCell is V-06's.
func serverCell(labels map[string]string) string {
	if labels["srv_kind"] == "default" {
		return "default:" + labels["srv_name"]
	}
	return labels["srv_name"]
}

// writeBeyond prints the second table, when there is anything to print.
func (a Answer) writeBeyond(w io.Writer) error {
	if len(a.Beyond) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "OUTCOME\tSERVER\tROUTE\tBY\tCOUNT\tRATE")
	for _, b := range a.Beyond {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%.0f\t%.1f/s\n", b.Outcome, b.Server, cmp.Or(b.Route, "-"), cmp.Or(b.By, "-"), b.Count, b.Rate)
	}
	return out.Flush()
}
