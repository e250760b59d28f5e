// Package conformance writes what a run says of an implementation as a whole,
// after the model of the Gateway API's conformance reports: per profile and
// feature what passed, failed and was skipped, with every reason and every
// version that had a part in it.
//
// The result tree flows in, one YAML document comes out. It refuses to write a
// document that its own Validate finds fault with.
package conformance

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meshproof/meshproof/reports/result"
)

// NoFeature is the name under which claims stand that belong to none: those of
// somebody's own scenarios.
const NoFeature = "none"

// noReason stands where a claim was skipped and nothing says why.
const noReason = "no reason was recorded"

// Write writes the report of a run.
func Write(w io.Writer, run *result.Run) error {
	report := Of(run)
	if err := report.Validate(); err != nil {
		return fmt.Errorf("the conformance report of run %s: %w", run.ID, err)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(report); err != nil {
		return err
	}
	return encoder.Close()
}

// Of is the report of a run.
func Of(run *result.Run) *Report {
	report := &Report{APIVersion: APIVersion, Kind: Kind, Date: run.Finished.UTC().Format(time.RFC3339), Run: run.ID,
		Dialect: orUnknown(run.Mesh.Dialect), Cluster: orUnknown(run.Cluster.Provider),
		Versions: Versions{Meshproof: orUnknown(run.Tool.Version), Mesh: strings.TrimSpace(run.Mesh.Name + " " + run.Mesh.Version), Proxy: run.Mesh.Proxy, Kubernetes: run.Cluster.Kubernetes}}
	for _, name := range []string{"core", "extended", "all"} {
		report.Profiles = append(report.Profiles, profile(run, name))
	}
	return report
}

// orUnknown stands where a run ended before it was known.
func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func profile(run *result.Run, name string) Profile {
	p := Profile{Name: name}
	features := map[string]*Statistics{}
	var order []string
	profileOf := map[string]string{}
	for _, feature := range run.Features {
		profileOf[feature.Name] = feature.Profile
		if feature.Profile == name {
			features[feature.Name] = &Statistics{}
			order = append(order, feature.Name)
		}
	}
	reasons := map[string]int{}
	each(run, func(scenario *result.Scenario, step *result.Step, claim *result.Claim) {
		feature, in := claim.Feature, profileOf[claim.Feature]
		if in == "" {
			in = "all" // it is of no feature that is known
		}
		if feature == "" {
			feature = NoFeature
		}
		if in != name {
			return
		}
		count := features[feature]
		if count == nil {
			count = &Statistics{}
			features[feature] = count
			order = append(order, feature)
		}
		full := result.Identify(scenario, step, claim).String()
		switch claim.Outcome {
		case result.Passed:
			count.Passed++
		case result.Failed, result.Error:
			count.Failed++
			p.FailedClaims = append(p.FailedClaims, full)
		case result.Inconclusive:
			count.Inconclusive++
			p.InconclusiveClaims = append(p.InconclusiveClaims, full)
		case result.Skipped:
			count.Skipped++
			reason := claim.Reason
			if reason == "" {
				reason = noReason
			}
			if reasons[reason]++; reasons[reason] == 1 {
				p.Skipped = append(p.Skipped, Skipped{Reason: reason})
			}
		}
	})
	for i := range p.Skipped {
		p.Skipped[i].Claims = reasons[p.Skipped[i].Reason]
	}
	slices.SortStableFunc(p.Skipped, func(a, b Skipped) int { return b.Claims - a.Claims })
	for _, feature := range order {
		one := Feature{Name: feature, Result: features[feature].Result(), Statistics: *features[feature]}
		switch one.Result {
		case Success, Partial:
			p.SupportedFeatures = append(p.SupportedFeatures, feature)
		case NotJudged:
			p.UnsupportedFeatures = append(p.UnsupportedFeatures, feature)
		}
		p.Features = append(p.Features, one)
		p.Statistics = p.Statistics.plus(one.Statistics)
	}
	p.Result = p.Statistics.Result()
	return p
}

func each(run *result.Run, do func(*result.Scenario, *result.Step, *result.Claim)) {
	for i := range run.Scenarios {
		scenario := &run.Scenarios[i]
		for j := range scenario.Steps {
			step := &scenario.Steps[j]
			for k := range step.Claims {
				do(scenario, step, &step.Claims[k])
			}
		}
	}
}
