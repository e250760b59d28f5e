package timelines

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

const (
	// mostLogs is how many bytes of log lines a page holds. What compresses well, as
	// logs do, adds a tenth of it to the page.
	mostLogs = 2 << 20
	// mostLine is what is kept of one line, and repeated what a line costs whose
	// text stands in the page already.
	mostLine = 2 << 10
	repeated = 8
	// mostLog is how much of a file is read.
	mostLog = 8 << 20
	// logMargin is how long before and after the recording a line may have been
	// written to be of this scenario.
	logMargin = 5 * time.Second
	// The policy controller's log stands in the bundle under these names.
	controllerNamespace = "linkerd"
	controllerContainer = "policy"
)

// evidence is where the logs of a scenario are.
type evidence struct {
	// files is the run's folder, nil where there is none.
	files   fs.FS
	bundle  string
	outcome result.Outcome
	// room is how many bytes of lines its time line may hold.
	room int
}

// logLine is one line without its time, which is in microseconds since the
// recording began.
type logLine struct {
	at   int64
	text string
}

// logs adds what the proxies and the policy controller wrote while the recording
// lasted, or why there is nothing of it.
func (m *maker) logs() {
	line := &m.line
	switch {
	case m.kept.bundle == "" && m.kept.outcome == result.Passed:
		line.NoLogs = "No log lines were kept: a scenario that has passed leaves none."
		return
	case m.kept.bundle == "" || m.kept.files == nil:
		line.NoLogs = "No log lines of this scenario were kept."
		return
	}
	if _, err := fs.Stat(m.kept.files, m.kept.bundle); err != nil {
		line.NoLogs = fmt.Sprintf("The logs of this scenario were in %s, which could not be read when this page was written.", m.kept.bundle)
		return
	}
	var all [][]logLine
	add := func(proxy int, pod, file string) {
		text, err := read(m.kept.files, file)
		if err != nil {
			return // the page says that it has none
		}
		line.Logs = append(line.Logs, timeline.Log{Proxy: proxy, Pod: pod, File: file})
		all = append(all, m.during(text))
	}
	for i, proxy := range line.Proxies {
		add(i, proxy.Pod, path.Join(m.kept.bundle, proxy.Pod, api.ProxyContainer+".log"))
	}
	// A bundle's name may have what means something in a pattern: list, don't match.
	controllers := path.Join(m.kept.bundle, controllerNamespace)
	pods, _ := fs.ReadDir(m.kept.files, controllers)
	for _, pod := range pods {
		add(-1, path.Join(controllerNamespace, pod.Name()), path.Join(controllers, pod.Name(), controllerContainer+".log"))
	}
	m.choose(all)
}

// read reads a log as far as it is not absurdly long.
func read(files fs.FS, name string) (string, error) {
	file, err := files.Open(name)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(file, mostLog))
	if err := errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(text), nil
}

// during are the lines of a log that were written while the recording lasted, in
// the order of their times. A line without a time, as of a stack, belongs to the
// one before it.
func (m *maker) during(text string) []logLine {
	var lines []logLine
	var at int64
	known := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		when, rest, stamped := stamp(line)
		if stamped {
			at, line = us(when.Sub(m.r.Began)), rest
			if !known {
				for i := range lines {
					lines[i].at = at
				}
			}
			known = true
		}
		lines = append(lines, logLine{at, harmless(line)})
	}
	if !known {
		return nil // nobody can tell when
	}
	slices.SortStableFunc(lines, func(a, b logLine) int { return cmp.Compare(a.at, b.at) })
	return slices.DeleteFunc(lines, func(l logLine) bool { return l.at < -us(logMargin) || l.at > m.line.End+us(logMargin) })
}

// stamp takes the time off a line: the first field of a JSON object, or what
// stands before the first space.
func stamp(line string) (when time.Time, rest string, found bool) {
	text, object := strings.CutPrefix(line, `{"time":"`)
	border := " "
	if object {
		border = `"`
	}
	text, rest, found = strings.Cut(text, border)
	if !found {
		return when, line, false
	}
	when, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return when, line, false
	}
	if object {
		rest = "{" + strings.TrimPrefix(rest, ",")
	}
	return when, rest, true
}

// harmless is a line as it can be shown: what does not print, such as a terminal's
// commands or marks that turn the direction of writing, stands there by its number,
// and what is too much is counted.
func harmless(line string) string {
	var b strings.Builder
	for i, r := range line {
		if b.Len() >= mostLine {
			fmt.Fprintf(&b, "… and %d bytes more", len(line)-i)
			break
		}
		if unicode.IsPrint(r) || r == '\t' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// choose puts the lines into the time line. Where there is no room for all of
// them, those are left out that are farthest from what has been found, or else
// from the changes, and the places where they were tell how many.
func (m *maker) choose(logs [][]logLine) {
	type candidate struct {
		log, line int
		far       int64
	}
	moments := m.moments()
	var all []candidate
	chosen := make([][]bool, len(logs))
	for log, lines := range logs {
		chosen[log] = make([]bool, len(lines))
		for i, line := range lines {
			all = append(all, candidate{log, i, distance(moments, line.at)})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.far, b.far) })
	room, stands := m.kept.room, map[string]bool{}
	for _, c := range all {
		text := logs[c.log][c.line].text
		cost := repeated
		if !stands[text] {
			cost += len(text)
		}
		if room -= cost; room < 0 {
			break // a nearer line never gives way to a farther one
		}
		stands[text], chosen[c.log][c.line] = true, true
	}
	for log, lines := range logs {
		out, before, left := &m.line.Logs[log], int64(0), 0
		put := func(at int64, text int) {
			out.At, out.Text = append(out.At, at-before), append(out.Text, text)
			before = at
		}
		for i, line := range lines {
			if !chosen[log][i] {
				left++
				continue
			}
			if left > 0 {
				put(lines[i-1].at, -left)
				left = 0
			}
			put(line.at, m.text(line.text))
		}
		if left > 0 {
			put(lines[len(lines)-1].at, -left)
		}
	}
}

// moments are the times near which lines matter most, in their order.
func (m *maker) moments() []int64 {
	var at []int64
	for _, f := range m.line.Findings {
		at = append(at, f.At)
	}
	if len(at) == 0 {
		for _, w := range m.line.Writes {
			at = append(at, w.Call)
		}
	}
	slices.Sort(at)
	return at
}

// distance of a time to the nearest moment.
func distance(moments []int64, at int64) int64 {
	next, _ := slices.BinarySearch(moments, at)
	near := int64(1) << 62
	if next < len(moments) {
		near = moments[next] - at
	}
	if next > 0 {
		near = min(near, at-moments[next-1])
	}
	return near
}
