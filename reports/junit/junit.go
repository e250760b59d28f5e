// Package junit writes the result tree as JUnit XML, as CI systems read it.
//
// One suite per folder of scenarios, one case per claim, with the place of each in
// the scenario's file. A claim that was refuted is a failure, one that could not be
// judged an error. A run that could not be set up, or that ran nothing, becomes
// one synthetic case with an error: the file is never empty and never silent
// about a run that proved nothing.
//
// Readers differ in what they look at. GitLab and Jenkins take a case for the
// same as in an earlier run when class name and name are, and show the text of a
// failure but not its message, so that the names are unique and the text stands
// alone; Jenkins takes what precedes the last dot of a class name for the
// package; actions for GitHub annotate by file and line of the case.
package junit

import (
	"encoding/xml"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/meshproof/meshproof/reports/result"
)

type testSuites struct {
	XMLName  xml.Name    `xml:"testsuites"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Suites   []testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name       string     `xml:"name,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Time       string     `xml:"time,attr"`
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Properties []property `xml:"properties>property,omitempty"`
	Cases      []testCase `xml:"testcase"`
	Out        string     `xml:"system-out,omitempty"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testCase struct {
	Name       string      `xml:"name,attr"`
	Classname  string      `xml:"classname,attr"`
	File       string      `xml:"file,attr,omitempty"`
	Line       int         `xml:"line,attr,omitempty"`
	Time       string      `xml:"time,attr"`
	Properties *properties `xml:"properties,omitempty"`
	Failure    *problem    `xml:"failure,omitempty"`
	Error      *problem    `xml:"error,omitempty"`
	Skipped    *problem    `xml:"skipped,omitempty"`
}

// properties of a case; nil leaves the element out.
type properties struct {
	Property []property `xml:"property"`
}

type problem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Body    string `xml:",chardata"`
}

// Write writes the whole run.
func Write(w io.Writer, run *result.Run) error {
	root := testSuites{Name: "meshproof", Time: seconds(run.Finished.Sub(run.Started).Seconds())}
	for _, suite := range suitesOf(run) {
		root.add(suite)
	}
	if root.Tests == 0 || run.Outcome != result.Passed && root.Failures+root.Errors == 0 {
		root.add(testSuite{Name: "meshproof", Tests: 1, Errors: 1, Time: root.Time, Cases: []testCase{{
			Name: "the run could be judged", Classname: "meshproof", Time: root.Time,
			Error: &problem{Message: oneLine(orElse(run.Reason, "nothing ran")), Type: string(run.Outcome)},
		}}})
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(root); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (root *testSuites) add(suite testSuite) {
	root.Suites = append(root.Suites, suite)
	root.Tests += suite.Tests
	root.Failures += suite.Failures
	root.Errors += suite.Errors
	root.Skipped += suite.Skipped
}

// suitesOf makes a suite of each folder that has scenarios in the run, in their
// order.
func suitesOf(run *result.Run) []testSuite {
	var suites []testSuite
	at, lasted := map[string]int{}, map[string]float64{}
	for _, scenario := range run.Scenarios {
		name := folder(scenario)
		if _, known := at[name]; !known {
			at[name] = len(suites)
			suites = append(suites, testSuite{Name: name, Properties: circumstances(run), Timestamp: scenario.Started.UTC().Format("2006-01-02T15:04:05")})
		}
		suite := &suites[at[name]]
		suite.addScenario(scenario)
		lasted[name] += scenario.Duration
		suite.Timestamp = min(suite.Timestamp, scenario.Started.UTC().Format("2006-01-02T15:04:05"))
		suite.Time = seconds(lasted[name])
	}
	return suites
}

// folder is where the scenario's file stands, as results name it.
func folder(scenario result.Scenario) string {
	return path.Dir(path.Clean(strings.ReplaceAll(scenario.Source.File, `\`, "/")))
}

func (suite *testSuite) addScenario(scenario result.Scenario) {
	tests, problems := suite.Tests, suite.Failures+suite.Errors
	for _, step := range scenario.Steps {
		for _, claim := range step.Claims {
			suite.addCase(caseOf(scenario, step, claim))
		}
		if step.Outcome == result.Error {
			suite.addCase(testCase{Name: "step: " + step.Name, Classname: classname(scenario), File: step.Source.File, Line: step.Source.Line,
				Time: seconds(step.Duration), Error: &problem{Message: oneLine(step.Reason), Type: string(result.Error)}})
		}
	}
	if suite.Tests == tests || scenario.Outcome == result.Error && suite.Failures+suite.Errors == problems {
		suite.addCase(testCase{Name: "the scenario could be judged", Classname: classname(scenario), File: scenario.Source.File, Line: scenario.Source.Line,
			Time: seconds(scenario.Duration), Error: &problem{Message: oneLine(orElse(scenario.Reason, "no claim ran")), Type: string(scenario.Outcome)}})
	}
	if suite.Failures+suite.Errors > problems {
		suite.Out += scenario.Name + "\n" + log(scenario)
	}
}

// circumstances say under which circumstances the run was made.
func circumstances(run *result.Run) []property {
	c := run.Cluster
	all := []property{
		{"run", run.ID}, {"seed", fmt.Sprint(run.Seed)}, {"mesh", strings.TrimSpace(run.Mesh.Name + " " + run.Mesh.Version)},
		{"dialect", run.Mesh.Dialect}, {"cluster", c.Provider}, {"kubernetes", c.Kubernetes}, {"nodes", fmt.Sprint(c.Nodes)},
	}
	return slices.DeleteFunc(all, func(p property) bool { return p.Value == "" })
}

// classname is the folder of the scenario's file and the scenario's name, as a
// path of packages.
func classname(scenario result.Scenario) string {
	var parts []string
	for part := range strings.SplitSeq(folder(scenario), "/") {
		if part != "" && part != "." && part != ".." {
			parts = append(parts, strings.ReplaceAll(part, ".", "_"))
		}
	}
	return strings.Join(append(parts, strings.ReplaceAll(scenario.Name, ".", "_")), ".")
}

// log tells what a scenario did on its way, and where its evidence lies.
func log(scenario result.Scenario) string {
	var text strings.Builder
	for _, step := range scenario.Steps {
		fmt.Fprintf(&text, "%s: %s\n", step.Name, step.Outcome)
		for _, action := range step.Actions {
			fmt.Fprintf(&text, "  %s\n", action)
		}
	}
	evidence := ""
	if scenario.Bundle != "" {
		evidence = "evidence: " + scenario.Bundle + "\n"
	}
	return limit(text.String()) + evidence
}

func (suite *testSuite) addCase(c testCase) {
	suite.Cases = append(suite.Cases, c)
	suite.Tests++
	switch {
	case c.Failure != nil:
		suite.Failures++
	case c.Error != nil:
		suite.Errors++
	case c.Skipped != nil:
		suite.Skipped++
	}
}

func caseOf(scenario result.Scenario, step result.Step, claim result.Claim) testCase {
	identity := result.Identify(&scenario, &step, &claim)
	c := testCase{Name: strings.TrimPrefix(identity.String(), scenario.Name+" / "), Classname: classname(scenario),
		File: claim.Source.File, Line: claim.Source.Line, Time: seconds(claim.Duration)}
	said := slices.DeleteFunc([]property{{"feature", claim.Feature}, {"labels", strings.Join(scenario.Labels, " ")}}, func(p property) bool { return p.Value == "" })
	if len(said) > 0 {
		c.Properties = &properties{said}
	}
	body := limit(text(claim))
	message := orElse(claim.Reason, "expected "+claim.Expected+", observed "+claim.Observed)
	switch claim.Outcome {
	case result.Failed:
		c.Failure = &problem{Message: oneLine(message), Type: string(claim.Outcome), Body: body}
	case result.Skipped:
		c.Skipped = &problem{Message: oneLine(claim.Reason)}
	case result.Passed:
	default: // inconclusive and errors: nothing was shown, so nothing passed
		c.Error = &problem{Message: oneLine(message), Type: string(claim.Outcome), Body: body}
	}
	return c
}

// text is all that is known of a claim, a line each.
func text(claim result.Claim) string {
	lines := []string{fmt.Sprintf("where: %s:%d", claim.Source.File, claim.Source.Line)}
	for _, field := range []struct{ name, value string }{
		{"reason", claim.Reason}, {"expected", claim.Expected}, {"observed", claim.Observed}, {"witness", claim.Witness}, {"shows", strings.Join(claim.Shows, ", ")},
	} {
		if field.value != "" {
			lines = append(lines, field.name+": "+field.value)
		}
	}
	return strings.Join(append(lines, claim.Details...), "\n")
}

// maxText bounds the texts, in bytes: some readers load the whole file, and
// GitLab refuses one of more than 30 MB.
const maxText = 16 << 10

// limit cuts a text at the end of a line, or of a character, and says so.
func limit(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := strings.LastIndexByte(s[:maxText], '\n') + 1
	if end == 0 {
		for end = maxText; end > 0 && !utf8.RuneStart(s[end]); end-- {
		}
	}
	return fmt.Sprintf("%s(%d more bytes are in run.json)\n", s[:end], len(s)-end)
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", max(s, 0)) }

func oneLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
