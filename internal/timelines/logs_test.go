package timelines

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

const (
	proxyLog      = "scenarios/revoke/bundle/ns/a/linkerd-proxy.log"
	controllerLog = "scenarios/revoke/bundle/linkerd/linkerd-destination-1/policy.log"
)

// began is when the recording of what is kept began.
var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// logged is a line that was written so long after the recording began.
func logged(after time.Duration, rest string) string {
	return fmt.Sprintf(`{"time":%q,%s}`, began.Add(after).Format(time.RFC3339Nano), rest) + "\n"
}

// withLogs is the time line of revoked, of which files were kept.
func withLogs(t *testing.T, scenario result.Scenario, room int, files map[string]string) timeline.Timeline {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	h := revoked(t)
	h.Recordings[0].Began = began
	a := &attaching{run: &result.Run{Scenarios: []result.Scenario{scenario}}, evidence: &timeline.Evidence{}, cover: newCover(&result.Run{}), samples: newSamples()}
	if err := a.add(h, map[string]evidence{"revoke": {files: root.FS(), bundle: scenario.Bundle, outcome: scenario.Outcome, room: room}}); err != nil {
		t.Fatal(err)
	}
	return a.evidence.Timelines[0]
}

var failed = result.Scenario{Name: "revoke", Outcome: result.Failed, Bundle: "scenarios/revoke/bundle"}

// words are the lines of a log with their times.
func words(line *timeline.Timeline, log timeline.Log) []string {
	var all []string
	at := int64(0)
	for i, text := range log.Text {
		at += log.At[i]
		if text < 0 {
			all = append(all, fmt.Sprintf("%d %d left out", at, -text))
		} else {
			all = append(all, fmt.Sprintf("%d %s", at, line.Texts[text]))
		}
	}
	return all
}

func TestATimeLineHasTheLogLinesOfItsProxiesAndOfThePolicyController(t *testing.T) {
	line := withLogs(t, failed, mostLogs, map[string]string{
		proxyLog: logged(-time.Hour, `"msg":"of another scenario"`) + logged(20*ms, `"msg":"second"`) + logged(10*ms, `"msg":"first"`) +
			"panic: it\n\tfell over\n" + "2026-11-22T12:00:00.03Z  INFO third\n" + "cut off in the mid",
		controllerLog:                          logged(1010*ms, `"msg":"alice is gone"`),
		"scenarios/revoke/bundle/ns/a/app.log": logged(30*ms, `"msg":"of the application"`),
	})
	if len(line.Logs) != 2 || line.NoLogs != "" {
		t.Fatalf("logs %+v, %q", line.Logs, line.NoLogs)
	}
	own, controller := line.Logs[0], line.Logs[1]
	want := []string{`10000 {"msg":"first"}`, "10000 panic: it", "10000 \tfell over", `20000 {"msg":"second"}`, "30000  INFO third", "30000 cut off in the mid"}
	if got := words(&line, own); !slices.Equal(got, want) || own.Proxy != 0 || own.Pod != "ns/a" || own.File != proxyLog {
		t.Errorf("the proxy's log is %q of %s (%d) in %s, want %q", got, own.Pod, own.Proxy, own.File, want)
	}
	if got := words(&line, controller); !slices.Equal(got, []string{`1010000 {"msg":"alice is gone"}`}) || controller.Proxy != -1 || controller.Pod != "linkerd/linkerd-destination-1" {
		t.Errorf("the controller's log is %q of %s (%d)", got, controller.Pod, controller.Proxy)
	}
}

func TestWhereNoLogsWereKeptTheTimeLineSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name     string
		scenario result.Scenario
		want     string
	}{
		{"it has passed", result.Scenario{Name: "revoke", Outcome: result.Passed}, "that has passed leaves none"},
		{"it was interrupted", result.Scenario{Name: "revoke", Outcome: result.Failed}, "No log lines of this scenario were kept"},
		{"the evidence was deleted", failed, "could not be read"},
		{"it names a folder of others", result.Scenario{Name: "revoke", Outcome: result.Failed, Bundle: "../others"}, "could not be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if line := withLogs(t, c.scenario, mostLogs, nil); !strings.Contains(line.NoLogs, c.want) || line.Logs != nil {
				t.Errorf("it says %q and has %d logs", line.NoLogs, len(line.Logs))
			}
		})
	}
}

// A proxy's name comes from the recording, which others may have written.
func TestNoProxysNameLeadsOutOfTheRunsFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "linkerd-proxy.log"), []byte(logged(0, `"msg":"secret"`)), 0o644); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	if err := os.MkdirAll(filepath.Join(run, failed.Bundle), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(run)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m := &maker{r: revoked(t).Recordings[0], texts: map[string]int{}, kept: evidence{files: root.FS(), bundle: failed.Bundle, room: mostLogs}}
	m.line.Proxies = []timeline.Proxy{{Pod: "../../../.."}}
	if m.logs(); m.line.Logs != nil {
		t.Errorf("it was read: %+v", m.line.Logs)
	}
}

// What is left out is what is far from the finding, at 3 s, and is counted.
func TestWhereThereIsNoRoomTheLinesNearTheFindingsStay(t *testing.T) {
	var log strings.Builder
	for n := range 400 {
		log.WriteString(logged(time.Duration(n)*10*ms, fmt.Sprintf(`"msg":"line %03d"`, n)))
	}
	const cost = len(`{"msg":"line 000"}`) + repeated
	line := withLogs(t, failed, 21*cost, map[string]string{proxyLog: log.String()})
	got := words(&line, line.Logs[0])
	if len(got) != 23 || got[0] != "2890000 290 left out" || got[1] != `2900000 {"msg":"line 290"}` || got[21] != `3100000 {"msg":"line 310"}` || got[22] != "3990000 89 left out" {
		t.Errorf("%d places: %q", len(got), got)
	}
}

func TestALineThatIsRepeatedStandsOnce(t *testing.T) {
	var log strings.Builder
	for n := range 400 {
		log.WriteString(logged(time.Duration(n)*10*ms, `"msg":"Request denied","server.name":"http"`))
	}
	line := withLogs(t, failed, 50+400*repeated, map[string]string{proxyLog: log.String()})
	if n := len(line.Logs[0].Text); n != 400 || line.Logs[0].Text[0] != line.Logs[0].Text[399] {
		t.Errorf("%d lines, the first is text %d and the last %d", n, line.Logs[0].Text[0], line.Logs[0].Text[399])
	}
}

func TestWhatDoesNotPrintInALogIsShownByItsNumber(t *testing.T) {
	for line, want := range map[string]string{
		"plain, ünd so weiter 日本": "plain, ünd so weiter 日本",
		"\x1b[31mred\x07":         `\u{1b}[31mred\u{7}`,
		"denied\u202edewolla":     `denied\u{202e}dewolla`,
		"<b>\xff&amp;":            "<b>\ufffd&amp;",
		strings.Repeat("ü", 2000): strings.Repeat("ü", 1024) + "… and 1952 bytes more",
	} {
		if got := harmless(line); got != want {
			t.Errorf("%q is shown as %q, want %q", line, got, want)
		}
	}
}
