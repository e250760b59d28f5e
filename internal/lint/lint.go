package lint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/meshproof/meshproof/scenarios"
)

// Level says whether a finding keeps a scenario from passing.
type Level string

const (
	Error   Level = "error"
	Warning Level = "warning"
)

// Rule is one thing that is looked for.
type Rule struct {
	ID    string
	Level Level
	// Text says in a line what is found.
	Text string
}

// The rules, in the order of their list.
var (
	parse         = Rule{"parse", Error, "the file is not a scenario"}
	duplicateName = Rule{"duplicate-name", Error, "two scenarios have one name, by which only one of them could be selected"}
	contradiction = Rule{"contradiction", Error, "a written expectation and the rules exclude each other"}
	unknownRule   = Rule{"unknown-rule", Warning, "shows names a rule that the rule book does not have"}
	unplayable    = Rule{"unplayable", Warning, "a write cannot be done as it is written, so that nothing after it could be checked"}
	unusedClient  = Rule{"unused-client", Warning, "a client never calls"}
	unusedTarget  = Rule{"unused-workload", Warning, "a workload is never called, nor named by a claim or an action"}
	unusedStream  = Rule{"unused-stream", Warning, "no claim is about a stream"}
	unusedHold    = Rule{"unused-connection", Warning, "no claim is about a connection that is kept open"}
	neverDenied   = Rule{"never-denied", Warning, "nobody is denied at any time, so that a mesh without any policy would pass"}
	uninformative = Rule{"uninformative", Warning, "a change is one for no stream, so that old or new is the same answer"}
	neverAwaited  = Rule{"never-awaited", Warning, "a write is not waited for, nor is any after it"}
)

// Rules lists what is looked for.
func Rules() []Rule {
	return []Rule{parse, duplicateName, contradiction, unknownRule, unplayable, unusedClient, unusedTarget, unusedStream, unusedHold, neverDenied, uninformative, neverAwaited}
}

// Finding is one thing that was found.
type Finding struct {
	Rule Rule
	Pos  scenarios.Pos
	Text string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s (%s)", f.Pos, f.Rule.Level, f.Text, f.Rule.ID)
}

// Failed reports whether one of the findings is an error.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Rule.Level == Error })
}

// Files lints scenario files, and those of folders, for meshes of a dialect. A file
// that is no scenario is a finding; one that cannot be read is an error.
func Files(dialect scenarios.Dialect, paths ...string) ([]Finding, error) {
	files, err := scenarios.Files(paths...)
	if err != nil {
		return nil, err
	}
	l := linter{dialect: dialect, names: map[string]scenarios.Pos{}}
	for _, file := range files {
		set, err := scenarios.Load(file)
		var wrong scenarios.Errors
		switch {
		case errors.As(err, &wrong):
			for _, one := range wrong {
				l.found(parse, one.Pos, "%s", one.Message)
			}
		case err != nil:
			return nil, err
		default:
			l.set(set)
		}
	}
	return l.sorted(), nil
}

// Set lints scenarios that are parsed, for meshes of a dialect.
func Set(dialect scenarios.Dialect, set *scenarios.Set) []Finding {
	l := linter{dialect: dialect, names: map[string]scenarios.Pos{}}
	l.set(set)
	return l.sorted()
}

type linter struct {
	dialect  scenarios.Dialect
	findings []Finding
	// names are those that are taken, and where.
	names map[string]scenarios.Pos
}

func (l *linter) found(rule Rule, at scenarios.Pos, format string, args ...any) {
	l.findings = append(l.findings, Finding{Rule: rule, Pos: at, Text: fmt.Sprintf(format, args...)})
}

func (l *linter) set(set *scenarios.Set) {
	for _, scenario := range set.Scenarios {
		if first, taken := l.names[scenario.Metadata.Name]; taken {
			l.found(duplicateName, scenario.Pos, "the name %q is taken by the scenario at %s", scenario.Metadata.Name, first)
		}
		l.names[scenario.Metadata.Name] = scenario.Pos
		l.shown(scenario)
		l.unused(scenario)
		l.awaited(scenario)
		l.played(set, scenario)
	}
}

// sorted are the findings by place; what is found of several rows or steps of one
// template is told once.
func (l *linter) sorted() []Finding {
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return slices.Compact(l.findings)
}
