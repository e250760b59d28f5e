package github

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

const (
	// maxAnnotations is how many of each level GitHub shows for one step.
	maxAnnotations = 10
	// maxTitle and maxMessage, in bytes, keep an annotation legible; GitHub
	// itself cuts at 255 characters and 64 KiB.
	maxTitle, maxMessage = 200, 4000
	// maxLikewise bounds how many further cells of a line are named.
	maxLikewise = 4
)

// level is a kind of annotation.
type level string

const (
	failure level = "error"   // the product failed, or could not be judged at all
	doubt   level = "warning" // a claim that could not be judged
)

// note is one annotation: all that is to be said at one line.
type note struct {
	level    level
	source   result.Source
	title    string
	message  string
	likewise []string
}

// Commands writes the log's groups and the annotations, without a summary.
func Commands(w io.Writer, env Environment, run *result.Run) error {
	out := bufio.NewWriter(w)
	for _, scenario := range run.Scenarios {
		group(out, scenario)
	}
	counts := map[level]int{}
	for _, n := range notes(run) {
		if counts[n.level]++; counts[n.level] <= maxAnnotations {
			n.write(out, env)
		}
	}
	var more []string
	for _, l := range []level{failure, doubt} {
		if rest := counts[l] - maxAnnotations; rest > 0 {
			more = append(more, fmt.Sprintf("%d more %ss", rest, l))
		}
	}
	if len(more) > 0 {
		fmt.Fprintf(out, "%s are not annotated; the summary and report.html list them\n", strings.Join(more, " and "))
	}
	return out.Flush()
}

// group writes what one scenario found, collapsed; nothing when it found nothing.
func group(out io.Writer, scenario result.Scenario) {
	var body bytes.Buffer
	for _, step := range scenario.Steps {
		for _, claim := range step.Claims {
			if needsAttention(claim.Outcome) {
				text.Finding(&body, scenario.Name, step.Name, claim)
			}
		}
	}
	// A scenario that failed has its first claim's reason for its own.
	if scenario.Outcome == result.Error || needsAttention(scenario.Outcome) && body.Len() == 0 {
		text.Reason(&body, scenario)
	}
	if body.Len() == 0 {
		return
	}
	fmt.Fprintf(out, "::group::%s %s: %s\n", text.Symbol(scenario.Outcome), data.Replace(scenario.Name), scenario.Outcome)
	lines := strings.ReplaceAll(body.String(), "\r", "\n") // to the runner, either ends a line
	for line := range strings.Lines(lines) {
		fmt.Fprintln(out, harmless(strings.TrimSuffix(line, "\n")))
	}
	fmt.Fprintln(out, "::endgroup::")
}

func needsAttention(o result.Outcome) bool {
	return o != result.Passed && o != result.Skipped
}

func levelOf(o result.Outcome) level {
	if o == result.Inconclusive {
		return doubt
	}
	return failure
}

// notes are the annotations of a run in its order. Claims of one line are the
// cells of a matrix and share one; so do scenarios that ended for one reason, as
// they do when the cluster did not start.
func notes(run *result.Run) []*note {
	var all []*note
	type key struct {
		level  level
		source result.Source
		reason string
	}
	at := map[key]*note{}
	add := func(k key, cell string, make func() *note) {
		if first := at[k]; first != nil {
			first.likewise = append(first.likewise, cell)
			return
		}
		at[k] = make()
		all = append(all, at[k])
	}
	for _, scenario := range run.Scenarios {
		told := map[level]bool{}
		for _, step := range scenario.Steps {
			for _, claim := range step.Claims {
				if !needsAttention(claim.Outcome) {
					continue
				}
				k := key{level: levelOf(claim.Outcome), source: claim.Source}
				told[k.level] = true
				add(k, claim.Name, func() *note {
					return &note{level: k.level, source: claim.Source, title: scenario.Name + ": " + step.Name, message: message(claim)}
				})
			}
			if step.Outcome == result.Error {
				told[failure] = true
				add(key{failure, step.Source, step.Reason}, step.Name, func() *note {
					return &note{level: failure, source: step.Source, title: scenario.Name + ": " + step.Name, message: step.Reason}
				})
			}
		}
		if needsAttention(scenario.Outcome) && !told[levelOf(scenario.Outcome)] {
			k := key{level: levelOf(scenario.Outcome), reason: scenario.Reason}
			add(k, scenario.Name, func() *note {
				return &note{level: k.level, source: scenario.Source, title: scenario.Name, message: scenario.Reason}
			})
		}
	}
	if needsAttention(run.Outcome) && len(all) == 0 {
		all = append(all, &note{level: failure, title: "meshproof", message: run.Reason})
	}
	return all
}

// message is what a reader of an annotation needs to understand a claim.
func message(claim result.Claim) string {
	lines := []string{claim.Name}
	for _, field := range []struct{ name, value string }{
		{"expected", claim.Expected}, {"observed", claim.Observed}, {"reason", claim.Reason}, {"witness", claim.Witness},
	} {
		if field.value != "" {
			lines = append(lines, field.name+": "+field.value)
		}
	}
	return strings.Join(append(lines, claim.Details...), "\n")
}

func (n *note) write(out io.Writer, env Environment) {
	text := shorten(n.message, maxMessage)
	if text == "" {
		text = "there is no reason on record; report.html shows the run" // GitHub shows no empty annotation
	}
	if len(n.likewise) > 0 {
		named := n.likewise[:min(len(n.likewise), maxLikewise)]
		text += "\nlikewise: " + shorten(strings.Join(named, ", "), maxMessage)
		if more := len(n.likewise) - len(named); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
	}
	var properties []string
	if n.source.File != "" {
		properties = append(properties, "file="+property.Replace(env.place(n.source.File)), fmt.Sprintf("line=%d", max(n.source.Line, 1)))
	}
	properties = append(properties, "title="+property.Replace(shorten(n.title, maxTitle)))
	fmt.Fprintf(out, "::%s %s::%s\n", n.level, strings.Join(properties, ","), data.Replace(text))
}

// A command ends with its line and its properties with a comma or colon; the
// runner undoes exactly these replacements.
var (
	data     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// harmless keeps a line from being a command: the runner reads one at the start
// of a line, whatever blanks precede it, and one of its older syntax anywhere.
func harmless(line string) string {
	if strings.HasPrefix(strings.TrimSpace(line), "::") {
		line = "| " + line
	}
	return strings.ReplaceAll(line, "##[", "## [")
}

// shorten cuts a text at a character, and says so.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
