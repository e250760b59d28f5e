package oracle_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// flow is one client's requests, evenly spaced.
type flow struct {
	replica  string
	identity string
	// address of a client without identity.
	address string
	limits  []oracle.Limit
	// every so often from the beginning, so many.
	every time.Duration
	count int
}

func total(rate int64) oracle.Limit { return oracle.Limit{Scope: "total", RequestsPerSecond: rate} }

func identity(rate int64) oracle.Limit {
	return oracle.Limit{Scope: "identity", RequestsPerSecond: rate}
}

func override(entry int, rate int64) oracle.Limit {
	return oracle.Limit{Scope: "override", Entry: entry, RequestsPerSecond: rate}
}

// seriesRow is a series of requests and how many of each flow are limited.
type seriesRow struct {
	rules string
	claim string
	flows []flow
	want  string
}

const twentyPerSecond = 50 * time.Millisecond

var seriesRows = []seriesRow{
	{"R-04", "within the limit nothing is limited", []flow{{limits: []oracle.Limit{total(5)}, every: 200 * time.Millisecond, count: 50}}, "0"},
	{"R-04", "at once there may be as many as in a second", []flow{{limits: []oracle.Limit{total(5)}, every: 0, count: 8}}, "3"},
	{"R-04", "after the burst there is one for every token", []flow{{limits: []oracle.Limit{total(5)}, every: twentyPerSecond, count: 60}}, "41"},
	{"R-04", "without limits nothing is limited", []flow{{every: 0, count: 100}}, "0"},
	{"R-03", "every replica counts for itself", []flow{
		{replica: "a", limits: []oracle.Limit{total(5)}, every: 250 * time.Millisecond, count: 12},
		{replica: "b", limits: []oracle.Limit{total(5)}, every: 250 * time.Millisecond, count: 12}}, "0 0"},
	{"R-05", "every identity has a bucket of its own", []flow{
		{identity: "alice", limits: []oracle.Limit{identity(5)}, every: 250 * time.Millisecond, count: 12},
		{identity: "bob", limits: []oracle.Limit{identity(5)}, every: 250 * time.Millisecond, count: 12}}, "0 0"},
	{"R-06", "clients without identity share one", []flow{
		{address: "10.0.0.1", limits: []oracle.Limit{identity(5)}, every: 0, count: 5},
		{address: "10.0.0.2", limits: []oracle.Limit{identity(5)}, every: 0, count: 5}}, "0 5"},
	{"R-07", "the identities of an entry share one", []flow{
		{identity: "alice", limits: []oracle.Limit{override(0, 5)}, every: 0, count: 5},
		{identity: "bob", limits: []oracle.Limit{override(0, 5)}, every: 0, count: 5},
		{identity: "carol", limits: []oracle.Limit{override(1, 5)}, every: 0, count: 5}}, "0 5 0"},
	{"R-08", "what the second limit refuses has taken from the total", []flow{
		{identity: "alice", limits: []oracle.Limit{total(10), identity(2)}, every: 0, count: 10},
		{identity: "bob", limits: []oracle.Limit{total(10), identity(2)}, every: 0, count: 2}}, "8 2"},
}

// limited is how many of each flow are, by some rules.
func (r seriesRow) limited(rules oracle.Rules) string {
	var series []oracle.Paced
	var of []int
	for i, f := range r.flows {
		client := oracle.Client{Identity: f.identity}
		if f.address != "" {
			client.Address = netip.MustParseAddr(f.address)
		}
		for n := range f.count {
			series, of = append(series, oracle.Paced{At: time.Hour + f.every*time.Duration(n), Replica: f.replica, Client: client, Limits: f.limits}), append(of, i)
		}
	}
	count := make([]int, len(r.flows))
	for i, limited := range (oracle.Oracle{Rules: rules}).Limited(series) {
		if limited {
			count[of[i]]++
		}
	}
	return strings.Trim(fmt.Sprint(count), "[]")
}

func TestASeriesOfRequestsIsLimitedByTheRuleBook(t *testing.T) {
	for _, r := range seriesRows {
		if got := r.limited(oracle.DefaultRules()); got != r.want {
			t.Errorf("%s %s: %s are limited, want %s", r.rules, r.claim, got, r.want)
		}
	}
}

// The order in which a series is written down is no matter.
func TestASeriesIsJudgedInTheOrderOfItsTimes(t *testing.T) {
	limits := []oracle.Limit{total(2)}
	got := oracle.New(oracle.World{}, api.Documented()).Limited([]oracle.Paced{{At: 30, Limits: limits}, {At: 10, Limits: limits}, {At: 20, Limits: limits}})
	if !slices.Equal(got, []bool{true, false, false}) {
		t.Errorf("limited are %v, want the last one only", got)
	}
}

// noticedInSeries says whether some series carries the rule, and whether one that
// does comes out differently.
func noticedInSeries(n oracle.Negation) (carried, noticed bool) {
	rules := oracle.DefaultRules()
	n.Apply(&rules)
	for _, r := range seriesRows {
		if r.rules == n.Rule {
			carried = true
			noticed = noticed || r.limited(rules) != r.want
		}
	}
	return carried, noticed
}
