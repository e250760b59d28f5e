// Package junit writes the result tree as JUnit XML, as CI systems read it.
//
// One suite per scenario, one case per claim. A run that could not be set up,
// or that ran nothing, becomes one synthetic failing case: the file is never
// empty and never silent about a run that proved nothing.
package junit

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

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
	File       string     `xml:"file,attr,omitempty"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Time       string     `xml:"time,attr"`
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Properties []property `xml:"properties>property,omitempty"`
	Cases      []testCase `xml:"testcase"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testCase struct {
	Name      string   `xml:"name,attr"`
	Classname string   `xml:"classname,attr"`
	File      string   `xml:"file,attr,omitempty"`
	Line      int      `xml:"line,attr,omitempty"`
	Time      string   `xml:"time,attr"`
	Failure   *problem `xml:"failure,omitempty"`
	Error     *problem `xml:"error,omitempty"`
	Skipped   *problem `xml:"skipped,omitempty"`
}

type problem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Body    string `xml:",chardata"`
}

// Write writes the whole run.
func Write(w io.Writer, run *result.Run) error {
	root := testSuites{Name: "meshproof", Time: seconds(run.Finished.Sub(run.Started).Seconds())}
	for _, scenario := range run.Scenarios {
		root.add(suiteOf(run, scenario))
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

func suiteOf(run *result.Run, scenario result.Scenario) testSuite {
	suite := testSuite{
		Name: scenario.Name, File: scenario.Source.File, Time: seconds(scenario.Duration),
		Timestamp: scenario.Started.UTC().Format("2006-01-02T15:04:05"),
		Properties: []property{
			{"seed", fmt.Sprint(run.Seed)}, {"mesh", run.Mesh.Name + " " + run.Mesh.Version},
			{"dialect", run.Mesh.Dialect}, {"cluster", run.Cluster.Provider + " " + run.Cluster.Kubernetes},
			{"labels", strings.Join(scenario.Labels, " ")},
		},
	}
	for _, step := range scenario.Steps {
		for _, claim := range step.Claims {
			suite.addCase(caseOf(scenario, step, claim))
		}
		if step.Outcome == result.Error {
			suite.addCase(testCase{Name: "step: " + step.Name, Classname: scenario.Name, File: step.Source.File, Line: step.Source.Line,
				Time: seconds(step.Duration), Error: &problem{Message: oneLine(step.Reason), Type: string(result.Error)}})
		}
	}
	if suite.Tests == 0 || scenario.Outcome == result.Error && suite.Failures+suite.Errors == 0 {
		suite.addCase(testCase{Name: "the scenario could be judged", Classname: scenario.Name, File: scenario.Source.File, Line: scenario.Source.Line,
			Time: seconds(scenario.Duration), Error: &problem{Message: oneLine(orElse(scenario.Reason, "no claim ran")), Type: string(scenario.Outcome)}})
	}
	return suite
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
	c := testCase{Name: step.Name + ": " + claim.Name, Classname: scenario.Name,
		File: claim.Source.File, Line: claim.Source.Line, Time: seconds(claim.Duration)}
	body := strings.Join(append([]string{"expected: " + claim.Expected, "observed: " + claim.Observed, "witness: " + claim.Witness}, claim.Details...), "\n")
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
