package transition_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
)

// large is the history of a scenario in which 32 streams made 100,000 requests to
// two pods, while a grant was taken away and given again twenty times.
func large(b *testing.B) (path string) {
	const requests, streams, changes, apart = 100_000, 32, 20, 5 * time.Second
	t := new(testing.T) // never fails: what the story is made of is constant
	s := tell(t, server, grant)
	one := s.recording.Streams[0]
	s.recording.Streams = nil
	for i := range streams {
		one.Name = fmt.Sprintf("alice-%d", i)
		one.ID = one.Name
		s.recording.Streams = append(s.recording.Streams, one)
	}
	for i := range changes {
		at := time.Duration(i+1) * apart
		if i%2 == 0 {
			s.writes(at, "-ServerAuthorization alice")
		} else {
			s.writes(at, grant)
		}
		s.recording.Steps = append(s.recording.Steps, history.StepSpan{Name: fmt.Sprint(i), From: at - time.Second, FirstWrite: at, InForce: at + 50*ms, To: at + apart/2})
	}
	end := (changes + 1) * apart
	for i := range requests {
		at := end * time.Duration(i) / requests
		q := history.Request{Stream: i % streams, Call: int64(i / streams), Start: at, End: at + 3*ms, Kind: yes, HTTPStatus: 200, GRPCStatus: -1, Pod: podOne, Delivered: 1,
			Hash: "1f", Record: &history.Record{Verdict: "allow", Protocol: "HTTP/1", Server: "server/http", Route: "default/default", Authorization: "serverauthorization/alice"}}
		if i/streams%2 == 1 {
			q.Pod = podTwo
		}
		if changed := int((at - 30*ms) / apart); changed%2 == 1 {
			q.Kind, q.HTTPStatus, q.Delivered, q.Record = clients.Forbidden, 403, 0, &history.Record{Verdict: "deny", Protocol: "HTTP/1", Server: "server/http", Route: "default/default"}
		}
		s.recording.Requests = append(s.recording.Requests, q)
	}
	path = filepath.Join(b.TempDir(), history.FileName)
	w, err := history.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Record(&s.recording, s.worlds, 0, len(s.recording.Requests)); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkAHundredThousandRequests reads a stored history of 100,000 requests and
// judges it, windows included. The aim is a second.
func BenchmarkAHundredThousandRequests(b *testing.B) {
	path := large(b)
	for b.Loop() {
		h, err := history.Read(path)
		if err != nil {
			b.Fatal(err)
		}
		v, err := transition.Judge(h.Recordings[0], h.Worlds, oracle.DefaultRules())
		if err != nil {
			b.Fatal(err)
		}
		if len(v.Findings) > 0 || v.Counts.Told != 100_000 || len(v.Brackets) == 0 {
			b.Fatalf("%d findings, %+v, %d brackets; the first finding: %+v", len(v.Findings), v.Counts, len(v.Brackets), v.Findings[:min(1, len(v.Findings))])
		}
		if thin := v.Thin(); len(thin) > 0 {
			b.Fatal(thin[0])
		}
	}
}
