package history

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

func recorded(t *testing.T) (*Recording, map[string]*World) {
	t.Helper()
	w := limitedWorld(t)
	return &Recording{Scenario: "s", Dialect: w.Dialect, Began: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Budget: 5 * time.Second, Base: w.ID,
		Streams: []Stream{{Name: "alice", ClientKind: "meshed", Target: "app:http", Protocol: "http1", Connection: "fresh", Port: 8080, Rate: 100, ID: "r-s-alice"}},
		Writes:  []Write{{Step: "revoke", Group: 1, Verb: "deleted", Kind: "Server", Name: "http", Call: 10, Ack: 20, World: w.ID, InForce: []InForce{{Pod: "ns/a", Port: 8080, At: 30, Hash: "h"}}}},
		Faults:  []Fault{{Name: "away", Kind: "controller-killed", From: 1, To: 2}},
		Proxies: []Proxy{{Pod: "ns/a", World: w.ID}}, Steps: []StepSpan{{Name: "revoke", From: 1, FirstWrite: 10, InForce: 30, To: 40}},
		Holds: []HoldSpan{{Name: "line", Opened: 1, LastEcho: 2}},
		Requests: []Request{
			{Call: 1, Start: 5, End: 9, Kind: clients.Allowed, HTTPStatus: 200, GRPCStatus: -1, Pod: "ns/a", Record: &Record{Verdict: "allow", Server: "server/http"}, Hash: "h", Delivered: 1, ID: "r-s-alice-1"},
			{Call: 3, Start: 25, End: 29, Kind: clients.Forbidden, HTTPStatus: 403, GRPCStatus: -1, Pod: "ns/b", Delivered: 0, ID: "r-s-alice-3"},
			{Call: 2, Start: 15, End: 60, Kind: clients.Timeout, GRPCStatus: -1, Delivered: -1, ID: "r-s-alice-2"},
		}}, map[string]*World{w.ID: w}
}

func TestARecordingIsReadAsItWasWrittenBitByBit(t *testing.T) {
	r, worlds := recorded(t)
	folder := t.TempDir()
	w, err := Create(filepath.Join(folder, FileName))
	if err != nil {
		t.Fatal(err)
	}
	early := *r
	early.Writes, early.Steps = nil, nil
	if err := w.Record(&early, worlds, 0, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Record(r, worlds, 1, 3); err != nil {
		t.Fatal(err)
	}
	// The run ends here, without Close: what was flushed must be there.
	h, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if !h.Cut || len(h.Recordings) != 1 || !reflect.DeepEqual(h.Recordings[0], r) {
		t.Errorf("cut: %v, read\n%+v, want\n%+v", h.Cut, h.Recordings[0], r)
	}
	if _, pod, err := h.Recordings[0].At(h.Worlds, r.Base, "ns/a", oracle.DefaultRules()); err != nil || pod == nil {
		t.Errorf("nobody can be asked about its world: %v", err)
	}
}

func TestRequestsThatNameWhatIsNotThereAreRefused(t *testing.T) {
	r, _ := recorded(t)
	for column, wrong := range map[int]int64{0: 7, 4: 9, 7: 5, 8: 5, 9: -1} {
		p := pack(r, 0, 3)
		p.Rows[column] = wrong
		if err := p.unpack(&Recording{Streams: r.Streams}); err == nil {
			t.Errorf("column %d holds %d, and nobody minds", column, wrong)
		}
	}
	p := pack(r, 0, 3)
	p.Rows = p.Rows[:len(p.Rows)-1]
	if err := p.unpack(&Recording{Streams: r.Streams}); err == nil {
		t.Error("half a row is taken for one")
	}
}

// A pod that was born after a write is judged in the world of that write too, with
// how it was asked for.
func TestAPodIsJudgedInWorldsFromBeforeItsBirth(t *testing.T) {
	r, worlds := recorded(t)
	late := limitedWorld(t)
	born := late.Pods[0].DeepCopy()
	born.Name = "later"
	late.ID, late.Pods = "late", append(late.Pods, born)
	late.World.Origins = map[string]oracle.Origin{"ns/later": {Annotations: map[string]string{"a": "b"}}}
	worlds["late"] = late
	r.Proxies = append(r.Proxies, Proxy{Pod: "ns/later", Born: 50, World: "late"})
	o, pod, err := r.At(worlds, r.Base, "ns/later", oracle.DefaultRules())
	if err != nil || pod != born || o.World.Origins["ns/later"].Annotations["a"] != "b" {
		t.Errorf("judged as %v with %v: %v", pod, o.World.Origins, err)
	}
	if _, _, err := r.At(worlds, r.Base, "ns/nobody", oracle.DefaultRules()); err == nil {
		t.Error("a pod of no world is judged")
	}
}
