package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/scenarios"
)

// fakeAgent has the answers of some streams, and notes what it is asked.
type fakeAgent struct {
	answers map[string]int64
	asked   []string
}

func (a *fakeAgent) RoundTrip(request *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, request.Method+" "+request.URL.Path)
	var since map[string]int64
	if err := json.NewDecoder(request.Body).Decode(&since); err != nil {
		return nil, fmt.Errorf("read the question: %w", err)
	}
	var pages []control.StreamPage
	for _, name := range sorted(since) {
		last, known := a.answers[name]
		if !known {
			continue
		}
		page := control.StreamPage{Name: name, Sent: last, Last: last}
		for seq := since[name] + 1; seq <= last; seq++ {
			page.Outcomes = append(page.Outcomes, control.Numbered{Seq: seq, Call: seq, Outcome: clients.Outcome{Kind: clients.Allowed, Start: noon, End: noon}})
		}
		pages = append(pages, page)
	}
	answer := httptest.NewRecorder()
	err := json.NewEncoder(answer).Encode(pages)
	return answer.Result(), err
}

// flowing is a recorder with these streams of each agent, in turn.
func flowing(agents ...*fakeAgent) *recorder {
	r := &recorder{s: &scenarioRun{}, begun: map[int][]time.Duration{}, rec: history.Recording{Began: noon}}
	for _, agent := range agents {
		pod := &clientPod{agent: control.New(agent)}
		for _, name := range sorted(agent.answers) {
			r.flows = append(r.flows, &flow{place: len(r.flows), name: name, spec: &scenarios.Stream{Name: name}, from: client{clientPod: pod}})
			r.rec.Streams = append(r.rec.Streams, history.Stream{Name: name})
		}
	}
	return r
}

func TestAnAgentIsAskedOnceForAllItsStreams(t *testing.T) {
	one, other := &fakeAgent{answers: map[string]int64{"a": 2, "b": 0, "c": 3}}, &fakeAgent{answers: map[string]int64{"d": 1}}
	r := flowing(one, other)
	for range 2 { // the second time there is nothing new
		if err := r.take(t.Context(), r.flows, 0); err != nil {
			t.Fatal(err)
		}
	}
	one.answers["b"] = 1
	if err := r.endStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.take(t.Context(), r.flows, 0); err != nil { // nobody is asked for what has ended
		t.Fatal(err)
	}
	want := "POST /pages POST /pages DELETE /streams"
	for _, agent := range []*fakeAgent{one, other} {
		if got := strings.Join(agent.asked, " "); got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	}
	count := map[string]int64{}
	for _, q := range r.rec.Requests {
		count[r.rec.Streams[q.Stream].Name]++
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		answers := one.answers[name] + other.answers[name]
		if f := r.flows[name[0]-'a']; count[name] != answers || f.seq != answers || f.answered != answers || !f.stopped {
			t.Errorf("stream %s: %d requests, seq %d, %d answered, stopped %t; want %d of each, and that it is", name, count[name], f.seq, f.answered, f.stopped, answers)
		}
	}
}

func TestAStreamThatItsAgentHasNotIsAnErrorWithItsName(t *testing.T) {
	agent := &fakeAgent{answers: map[string]int64{"a": 1, "b": 1}}
	r := flowing(agent)
	delete(agent.answers, "b")
	for what, err := range map[string]error{"read": r.take(t.Context(), r.flows, 0), "stop": r.endStreams(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), what+" streams: the agent has no stream b") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
