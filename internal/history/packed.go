package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// packed is some requests of a recording as they stand in the file: what they have
// in common once, and of each a row of numbers. A run has a hundred thousand of
// them.
type packed struct {
	Scenario string         `json:"scenario"`
	Pods     []string       `json:"pods"`
	Kinds    []clients.Kind `json:"kinds"`
	Hashes   []string       `json:"hashes"`
	Records  []Record       `json:"records"`
	// Rows of packedColumns numbers each: stream, call, nanoseconds from the start of
	// the request before to its own, and from there to its end, the place of its kind,
	// HTTP status, gRPC status, the places of pod, record and hash, 0 for none and
	// from 1, and how often it was delivered.
	Rows []int64 `json:"rows"`
}

const packedColumns = 11

// pack takes the requests of a recording from a place to another.
func pack(r *Recording, from, to int) *packed {
	p := &packed{Scenario: r.Scenario, Rows: make([]int64, 0, (to-from)*packedColumns)}
	pods, kinds, hashes, records := places[string]{}, places[clients.Kind]{}, places[string]{}, places[Record]{}
	before := time.Duration(0)
	for i := from; i < to; i++ {
		q := &r.Requests[i]
		record, pod, hash := int64(0), int64(0), int64(0)
		if q.Record != nil {
			record = 1 + records.of(*q.Record, &p.Records)
		}
		if q.Pod != "" {
			pod = 1 + pods.of(q.Pod, &p.Pods)
		}
		if q.Hash != "" {
			hash = 1 + hashes.of(q.Hash, &p.Hashes)
		}
		p.Rows = append(p.Rows, int64(q.Stream), q.Call, int64(q.Start-before), int64(q.End-q.Start), kinds.of(q.Kind, &p.Kinds),
			int64(q.HTTPStatus), int64(q.GRPCStatus), pod, record, hash, int64(q.Delivered))
		before = q.Start
	}
	return p
}

// places are where values stand in a list.
type places[T comparable] map[T]int64

func (p places[T]) of(value T, list *[]T) int64 {
	at, known := p[value]
	if !known {
		at = int64(len(*list))
		p[value] = at
		*list = append(*list, value)
	}
	return at
}

// unpack adds the requests to the recording.
func (p *packed) unpack(into *Recording) error {
	if len(p.Rows)%packedColumns != 0 {
		return fmt.Errorf("requests of %s: %d numbers are no rows of %d", p.Scenario, len(p.Rows), packedColumns)
	}
	into.Requests = slices.Grow(into.Requests, len(p.Rows)/packedColumns)
	before := time.Duration(0)
	for row := p.Rows; len(row) > 0; row = row[packedColumns:] {
		stream, kind, pod, record, hash := row[0], row[4], row[7], row[8], row[9]
		if stream < 0 || stream >= int64(len(into.Streams)) || kind < 0 || kind >= int64(len(p.Kinds)) ||
			pod < 0 || pod > int64(len(p.Pods)) || record < 0 || record > int64(len(p.Records)) || hash < 0 || hash > int64(len(p.Hashes)) {
			return fmt.Errorf("requests of %s: the row %v names what is not there", p.Scenario, row[:packedColumns])
		}
		q := Request{Stream: int(stream), Call: row[1], Start: before + time.Duration(row[2]), Kind: p.Kinds[kind],
			HTTPStatus: int(row[5]), GRPCStatus: int(row[6]), Delivered: int(row[10]), ID: into.Streams[stream].CallID(row[1])}
		q.End = q.Start + time.Duration(row[3])
		if pod > 0 {
			q.Pod = p.Pods[pod-1]
		}
		if record > 0 {
			q.Record = &p.Records[record-1]
		}
		if hash > 0 {
			q.Hash = p.Hashes[hash-1]
		}
		into.Requests = append(into.Requests, q)
		before = q.Start
	}
	return nil
}
