package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/suites/bench/control"
)

// full is a round in which every contender has every figure: direct's are 1,
// everybody else's 2.
func full() round {
	r := round{}
	for _, s := range scenarios {
		r[s.id] = map[string]sample{}
		for _, name := range s.names() {
			v, none := 2.0, 0.0
			if name == nameDirect {
				v = 1
			}
			r[s.id][name] = sample{CPU: v, Busy: v, PerSecond: v, P50: v, P99: v, Gbit: v, CPUPerGB: v, Resident: v, PerConnection: v, HeapPerConnection: v, Allocations: &none}
		}
	}
	r[scenarioController] = map[string]sample{}
	for _, name := range control.Names() {
		two := 2.0
		r[scenarioController][name] = sample{Figure: &two}
	}
	return r
}

func TestEveryRowIsOfALoadThatIsMade(t *testing.T) {
	for _, row := range judge([]round{full()}) {
		if row.RunBy != "" {
			continue
		}
		if row.Measured == nil || row.GateMet == nil != (row.Gate == nil) || row.TopMet == nil != (row.Top == nil) || row.Rounds != 1 {
			t.Errorf("%s: nothing measured", row.ID)
		}
	}
	for _, row := range sideBySide([]round{full()}, scenarios) {
		if row.Measured == nil {
			t.Errorf("%s: nothing measured", row.ID)
		}
	}
}

func TestRowsAndLoadsHaveNamesOfTheirOwn(t *testing.T) {
	var ids []string
	for _, row := range append(judge(nil), sideBySide(nil, scenarios)...) {
		ids = append(ids, row.ID)
	}
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(unique) != len(ids) {
		t.Error(cmp.Diff(ids, unique))
	}
}

// In the second round the machine was ten times slower for everybody.
func TestASlowRoundChangesNoRatio(t *testing.T) {
	slow := full()
	for _, samples := range slow {
		for name, s := range samples {
			s.CPU *= 10
			samples[name] = s
		}
	}
	var got Row
	got.take([]round{full(), slow, full()}, ratio(cpu, "http1", nameHAProxy))
	if want := []float64{1, 1, 1}; !cmp.Equal(got.Values, want) || *got.Measured != 1 {
		t.Errorf("%v, median %v", got.Values, *got.Measured)
	}
}

func TestTheMedianIsJudgedByItsBound(t *testing.T) {
	for _, row := range judge([]round{full()}) {
		if row.Gate == nil || row.Top == nil || row.Measured == nil {
			continue
		}
		atLeast := row.Bound == "at least"
		met := *row.Measured <= *row.Gate
		if atLeast {
			met = *row.Measured >= *row.Gate
		}
		if *row.GateMet != met {
			t.Errorf("%s: %v against %s is %v", row.ID, *row.Measured, row.bound(row.Gate), *row.GateMet)
		}
		if top := *row.Top; top > *row.Gate != atLeast && top != *row.Gate {
			t.Errorf("%s: the top figure %v is easier than the gate %v", row.ID, top, *row.Gate)
		}
	}
}

func TestARoundThatLacksATargetIsLeftOut(t *testing.T) {
	lacks := full()
	delete(lacks["http1"], nameHAProxy)
	var got Row
	got.take([]round{lacks, full()}, ratio(cpu, "http1", nameHAProxy))
	if got.Rounds != 1 || *got.Measured != 1 {
		t.Errorf("%+v", got)
	}
	if got = (Row{}); got.Measured != nil {
		t.Error("measured without a round")
	}
}

func TestWhatMustBeInstalledIsNamed(t *testing.T) {
	absent := func() (string, error) { return "", errors.New("not here") }
	list := []target{
		{name: "a", packages: []string{"pkg-a", "pkg-a-extra"}, program: absent},
		{name: "b", packages: []string{"pkg-b"}, program: absent},
		{name: "c", optional: true, program: absent},
		{name: "d"},
	}
	if _, err := installed(list, nil); err == nil || !strings.HasSuffix(err.Error(), "install pkg-a pkg-a-extra pkg-b") {
		t.Errorf("%v", err)
	}
	if got, err := installed(list, []string{"c", "d"}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTheTableHasTheColumnsOfTheFile(t *testing.T) {
	r := Report{Rows: judge([]round{full()}), Began: time.Unix(0, 0)}
	lines := strings.Split(strings.TrimSpace(r.Markdown()), "\n")
	if want := "| id | name | measured | gate | top | gate met | top met | rounds |"; lines[2] != want {
		t.Errorf("%s", lines[2])
	}
	for _, line := range lines[2:] {
		if strings.Count(line, "|") != 9 {
			t.Errorf("%s", line)
		}
	}
	if !strings.HasPrefix(lines[4], "| P1/saturated |") || len(lines) != 4+len(table) {
		t.Errorf("%d lines, %s", len(lines), lines[4])
	}
}

// policed notes what policies it is told.
type policed struct {
	direct
	told []int
}

func (p *policed) apply(_ context.Context, _ load.Protocol, policy *pb.Server) error {
	p.told = append(p.told, len(policy.Authorizations))
	return nil
}

func TestALoadWithAPolicyOfItsOwnLeavesTheUsualOneBehind(t *testing.T) {
	target := &policed{direct: direct{&world{sink: map[load.Protocol]string{load.HTTP1: "127.0.0.1:1"}}}}
	r := &runner{settings: settings{1, 0, time.Millisecond}, running: map[string]instance{nameOurs: target}}
	s := scenarios[at(t, "policy-size")]
	for _, c := range s.contenders {
		target.told = nil
		r.measure(t.Context(), s, c) // nothing answers
		if want := []int{len(c.policy().Authorizations), len(enforced().Authorizations)}; !cmp.Equal(target.told, want) {
			t.Errorf("%s: policies of %v authorizations, want %v", c.name, target.told, want)
		}
	}
}
