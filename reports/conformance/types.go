package conformance

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// APIVersion and Kind head the document.
const (
	APIVersion = "meshproof.dev/v1alpha1"
	Kind       = "ConformanceReport"
)

// Report is the whole document: what one run says of an implementation.
type Report struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Date is when the run ended, as RFC 3339 has it.
	Date string `yaml:"date"`
	// Run is the ID of the run.
	Run string `yaml:"run"`
	// Dialect is that in which the mesh spoke and by which it was judged.
	Dialect  string   `yaml:"dialect"`
	Versions Versions `yaml:"versions"`
	// Cluster is the kind of cluster: embedded, kind or kubeconfig.
	Cluster string `yaml:"cluster"`
	// Profiles are core, extended and all, in this order. Each tells of its own
	// features and not of those of the profile before it.
	Profiles []Profile `yaml:"profiles"`
}

// Versions of everything that had a part in the run.
type Versions struct {
	Meshproof  string `yaml:"meshproof"`
	Mesh       string `yaml:"mesh"`
	Proxy      string `yaml:"proxy"`
	Kubernetes string `yaml:"kubernetes"`
}

// Result is what a run says of a profile or of a feature.
type Result string

// The results. Failure outweighs Inconclusive, and that the others.
const (
	// Success: every claim passed.
	Success Result = "success"
	// Partial: what was judged passed, and something was skipped.
	Partial Result = "partial"
	// Inconclusive: of something it cannot be said whether it holds.
	Inconclusive Result = "inconclusive"
	// Failure: a claim does not hold.
	Failure Result = "failure"
	// NotJudged: everything was skipped, or there was nothing to judge.
	NotJudged Result = "not-judged"
)

// Statistics count claims.
type Statistics struct {
	Passed       int `yaml:"passed"`
	Failed       int `yaml:"failed"`
	Inconclusive int `yaml:"inconclusive"`
	Skipped      int `yaml:"skipped"`
}

// Result is what the numbers say.
func (s Statistics) Result() Result {
	switch {
	case s.Failed > 0:
		return Failure
	case s.Inconclusive > 0:
		return Inconclusive
	case s.Passed == 0:
		return NotJudged
	case s.Skipped > 0:
		return Partial
	}
	return Success
}

func (s Statistics) plus(o Statistics) Statistics {
	return Statistics{s.Passed + o.Passed, s.Failed + o.Failed, s.Inconclusive + o.Inconclusive, s.Skipped + o.Skipped}
}

// Profile is a part of the features.
type Profile struct {
	Name       string     `yaml:"name"`
	Result     Result     `yaml:"result"`
	Statistics Statistics `yaml:"statistics"`
	// SupportedFeatures are those of which something passed and nothing did
	// otherwise, but for what was skipped. Of UnsupportedFeatures nothing was
	// judged: the run left them out, or the cluster cannot show them. Features in
	// neither list have findings.
	SupportedFeatures   []string  `yaml:"supportedFeatures,omitempty"`
	UnsupportedFeatures []string  `yaml:"unsupportedFeatures,omitempty"`
	Features            []Feature `yaml:"features,omitempty"`
	// Skipped says why claims were skipped: never without a reason.
	Skipped []Skipped `yaml:"skipped,omitempty"`
	// FailedClaims and InconclusiveClaims are named as scenario / step / claim.
	FailedClaims       []string `yaml:"failedClaims,omitempty"`
	InconclusiveClaims []string `yaml:"inconclusiveClaims,omitempty"`
}

// Feature is one feature of a profile.
type Feature struct {
	Name       string     `yaml:"name"`
	Result     Result     `yaml:"result"`
	Statistics Statistics `yaml:"statistics"`
}

// Skipped is how many claims were skipped for one reason.
type Skipped struct {
	Reason string `yaml:"reason"`
	Claims int    `yaml:"claims"`
}

// Validate reports everything that keeps the document from being a report: a
// reader may rely on what it does not complain of.
func (r *Report) Validate() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if r.APIVersion != APIVersion || r.Kind != Kind {
		say("it is of kind %s of %s, not %s of %s", r.Kind, r.APIVersion, Kind, APIVersion)
	}
	if _, err := time.Parse(time.RFC3339, r.Date); err != nil {
		say("date %q: %w", r.Date, err)
	}
	for name, value := range map[string]string{"run": r.Run, "dialect": r.Dialect, "cluster": r.Cluster, "versions.meshproof": r.Versions.Meshproof} {
		if value == "" {
			say("%s is missing", name)
		}
	}
	var names []string
	for i := range r.Profiles {
		names = append(names, r.Profiles[i].Name)
		if err := r.Profiles[i].validate(); err != nil {
			say("profile %s: %w", r.Profiles[i].Name, err)
		}
	}
	if !slices.Equal(names, []string{"core", "extended", "all"}) {
		say("the profiles are %v, not core, extended and all", names)
	}
	return errors.Join(wrong...)
}

func (p *Profile) validate() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if p.Result != p.Statistics.Result() {
		say("the result is %s, and the numbers say %s", p.Result, p.Statistics.Result())
	}
	var sum Statistics
	for _, feature := range p.Features {
		sum = sum.plus(feature.Statistics)
		if feature.Result != feature.Statistics.Result() {
			say("feature %s: the result is %s, and the numbers say %s", feature.Name, feature.Result, feature.Statistics.Result())
		}
		supported, unsupported := slices.Contains(p.SupportedFeatures, feature.Name), slices.Contains(p.UnsupportedFeatures, feature.Name)
		if supported != (feature.Result == Success || feature.Result == Partial) || unsupported != (feature.Result == NotJudged) {
			say("feature %s is %s, and listed as supported: %v, as unsupported: %v", feature.Name, feature.Result, supported, unsupported)
		}
	}
	if sum != p.Statistics {
		say("the features have %+v, and the profile %+v", sum, p.Statistics)
	}
	skipped := 0
	for _, one := range p.Skipped {
		skipped += one.Claims
		if one.Reason == "" {
			say("%d claims were skipped without a reason", one.Claims)
		}
	}
	if skipped != p.Statistics.Skipped {
		say("reasons are given for %d skipped claims of %d", skipped, p.Statistics.Skipped)
	}
	if len(p.FailedClaims) != p.Statistics.Failed || len(p.InconclusiveClaims) != p.Statistics.Inconclusive {
		say("%d failed and %d inconclusive claims are named, of %d and %d", len(p.FailedClaims), len(p.InconclusiveClaims), p.Statistics.Failed, p.Statistics.Inconclusive)
	}
	return errors.Join(wrong...)
}
