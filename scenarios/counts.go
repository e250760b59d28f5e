package scenarios

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"
)

// Count is how many there must be: none, some, a whole number, or "at most" one.
type Count string

// atMost begins a count that bounds.
const atMost = "at most "

// Fits says whether so many are as many as there must be.
func (c Count) Fits(number float64) bool {
	switch Amount(c) {
	case None:
		return number == 0
	case Some:
		return number > 0
	}
	bound, bounds := strings.CutPrefix(string(c), atMost)
	want, err := strconv.Atoi(bound)
	return err == nil && (number == float64(want) || bounds && number < float64(want))
}

// Exact says that more of them would be wrong: some is true with any number.
func (c Count) Exact() bool { return Amount(c) != Some }

func (c *Count) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && (contains(Amount("").Values(), n.Value) || countBound.MatchString(n.Value)) {
		*c = Count(n.Value)
		return
	}
	number, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || number < 0 {
		d.fail(n, "expected %s, found %s", c.describe(), found(n))
		return
	}
	*c = Count(strconv.Itoa(number))
}

// countBound is how a bound is written.
var countBound = regexp.MustCompile("^" + atMost + "[0-9]{1,9}$")

func (Count) describe() string { return `none, some, a whole number or "at most" one` }

// JSONSchema is a word, a number or a bound.
func (Count) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		enumSchema(Amount("")), {Type: "integer", Minimum: "0"}, {Type: "string", Pattern: countBound.String()},
	}}
}

// ControlPlanePart is a part of the mesh's control plane, with a log and metrics
// of its own.
type ControlPlanePart string

const (
	PolicyPart      ControlPlanePart = "policy"
	DestinationPart ControlPlanePart = "destination"
	IdentityPart    ControlPlanePart = "identity"
	InjectorPart    ControlPlanePart = "injector"
)

// Values lists the closed set.
func (ControlPlanePart) Values() []string {
	return of(PolicyPart, DestinationPart, IdentityPart, InjectorPart)
}

// JSONSchema is the list.
func (v ControlPlanePart) JSONSchema() *jsonschema.Schema { return enumSchema(v) }

// MetricClaim compares the sum of the series of one metric: over the proxies of a
// workload's pods, or over the pods of a part of the control plane. A series
// counts with its value; one of a histogram with the number of its observations.
type MetricClaim struct {
	Pos `yaml:"-" json:"-"`
	// Workload, or a part of the control plane.
	Workload     string           `yaml:"workload"`
	ControlPlane ControlPlanePart `yaml:"controlPlane"`
	Name         string           `yaml:"name" jsonschema:"required"`
	// Labels that a series must have; named values may stand in them.
	Labels map[string]string `yaml:"labels"`
	// Without are labels that a series must not have.
	Without []string `yaml:"without"`
	// Since the step began, its actions included (default), or since the start of the process: then a gauge is what it is.
	Since Since `yaml:"since"`
	// Is none, some, a whole number (exactly so many), or "at most 20".
	Is Count `yaml:"is" jsonschema:"required"`
}

// LogClaim counts lines that were logged since the step began, its actions
// included: by the proxies of a workload's pods, or by a part of the control plane.
type LogClaim struct {
	Pos `yaml:"-" json:"-"`
	// Workload, or a part of the control plane.
	Workload     string           `yaml:"workload"`
	ControlPlane ControlPlanePart `yaml:"controlPlane"`
	// Message of a line.
	Message string `yaml:"message" jsonschema:"required"`
	// Fields of a line, such as client.tls: regular expressions that must fit as a whole, in which named values may stand.
	Fields map[string]string `yaml:"fields"`
	// Is none, some, a whole number (exactly so many), or "at most 20".
	Is Count `yaml:"is" jsonschema:"required"`
}

// source demands a workload or a part of the control plane.
func (v *validator) source(at Pos, workload string, part ControlPlanePart) {
	switch {
	case (workload == "") == (part == ""):
		v.add(at, "give workload or controlPlane, one of the two")
	case workload != "":
		v.component(at, workload)
	}
}

func (v *validator) metric(c *MetricClaim) {
	v.source(c.Pos, c.Workload, c.ControlPlane)
	for _, value := range c.Labels {
		v.text(c.Pos, value)
	}
	for _, label := range c.Without {
		if _, both := c.Labels[label]; both {
			v.add(c.Pos, "a series cannot have the label %q and be without it", label)
		}
	}
}

func (v *validator) log(c *LogClaim) {
	v.source(c.Pos, c.Workload, c.ControlPlane)
	for name, value := range c.Fields {
		v.text(c.Pos, value)
		if _, err := regexp.Compile(valuePattern.ReplaceAllString(value, "x")); err != nil {
			v.add(c.Pos, "field %s: %q is not a regular expression: %v", name, value, err)
		}
	}
}

// Counts says that the claim counts what others cause: it is judged after those
// of its step.
func (c *Claim) Counts() bool { return c.Metric != nil || c.Log != nil }
