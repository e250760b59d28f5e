package session

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/reports/result"
)

func TestProgressBreaksTheSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		observe := Progress(&out)
		observe(engine.Event{Kind: engine.RunStarted, Text: "2 claims in 1 scenarios"})
		observe(engine.Event{Kind: engine.ScenarioStarted, Scenario: "one"})
		observe(engine.Event{Kind: engine.StepStarted, Scenario: "one", Step: "granted"})
		time.Sleep(quietLimit - time.Second)
		observe(engine.Event{Kind: engine.Waiting, Scenario: "one", Text: "the pods of app"})
		if strings.Contains(out.String(), "at work") {
			t.Errorf("it speaks before anybody can wonder:\n%s", out.String())
		}
		time.Sleep(quietLimit + time.Second)
		if want := "at work: one (granted: the pods of app, for 1s)\n"; !strings.Contains(out.String(), want) {
			t.Errorf("got\n%swant %s", out.String(), want)
		}
		// synctest reports a goroutine that outlives this.
		observe(engine.Event{Kind: engine.RunFinished})
	})
}

func TestProgressTellsAReasonOncePerScenario(t *testing.T) {
	var out strings.Builder
	observe := Progress(&out)
	skipped := result.Claim{Name: "denied", Outcome: result.Skipped, Reason: "not reached: no image"}
	for range 3 {
		observe(engine.Event{Kind: engine.ClaimFinished, Scenario: "one", Result: &skipped})
	}
	observe(engine.Event{Kind: engine.ScenarioFinished, Scenario: "one", Finished: &result.Scenario{Name: "one", Outcome: result.Error, Reason: "no image",
		Steps: []result.Step{{Claims: []result.Claim{skipped, skipped, skipped}}}}})
	if got := out.String(); strings.Count(got, "no image") != 1 || !strings.Contains(got, "✗ one: 0 of 3 claims passed in 0.0s, then no image\n") {
		t.Errorf("got\n%s", got)
	}
}
