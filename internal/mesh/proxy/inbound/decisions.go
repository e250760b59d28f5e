package inbound

import (
	"net"
	"sync"
	"time"
)

// ringSize is how many decisions are remembered.
const ringSize = 4096

// maxRecordedPath bounds what one record holds of a path.
const maxRecordedPath = 512

// Decision is one record: what was decided for whom, and by which policy.
type Decision struct {
	// Seq counts from 1 without gaps.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// Client is ip:port of the TCP peer.
	Client         string `json:"client"`
	ClientIdentity string `json:"clientIdentity"`
	// TLS is true, no_identity or opaque, as in the metrics.
	TLS        string `json:"tls"`
	TargetPort uint16 `json:"targetPort"`
	// Protocol is http1, http2, grpc or opaque.
	Protocol string `json:"protocol"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	// RequestID is the request's x-request-id header, cut to maxRecordedPath.
	RequestID string `json:"requestID,omitempty"`
	// Verdict is allow, deny, not-found, terminate, one of ambiguous, limited,
	// redirect, fault, or refuse: closed without a policy's having been asked.
	Verdict string `json:"verdict"`
	// Reason says in words why a connection was refused; "" for other verdicts.
	Reason string `json:"reason,omitempty"`
	// Server, Route and Authorization are kind/name, "" for none.
	Server        string `json:"server"`
	Route         string `json:"route"`
	Authorization string `json:"authorization"`
	// Hash names the policy message that was in force; "" before the first.
	Hash string `json:"hash"`
}

// Decisions remembers the last ringSize decisions. The zero value is ready.
type Decisions struct {
	mu    sync.Mutex
	began time.Time // with the first record
	last  uint64
	ring  []Decision
}

func (d *Decisions) add(record Decision) {
	if len(record.Path) > maxRecordedPath {
		record.Path = record.Path[:maxRecordedPath]
	}
	record.RequestID = record.RequestID[:min(len(record.RequestID), maxRecordedPath)]
	record.Time = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == 0 {
		d.began = record.Time
	}
	d.last++
	record.Seq = d.last
	if len(d.ring) < ringSize {
		d.ring = append(d.ring, record)
		return
	}
	d.ring[(d.last-1)%ringSize] = record
}

// DecisionFilter selects records; zero fields select all.
type DecisionFilter struct {
	Since  uint64
	Port   uint16
	Client string
}

// DecisionList is the answer of the control port.
type DecisionList struct {
	// Last is the newest sequence number, to ask from next time.
	Last uint64 `json:"last"`
	// Dropped counts records after Since that were overwritten already.
	Dropped uint64 `json:"dropped"`
	// Began is when the numbers began, zero before the first record: a proxy that
	// was started again has others.
	Began time.Time `json:"began,omitzero"`
	// Now is this proxy's clock, so that the records' times can be compared with
	// another machine's.
	Now       time.Time  `json:"now"`
	Decisions []Decision `json:"decisions"`
}

// List returns the remembered decisions after f.Since, oldest first.
func (d *Decisions) List(f DecisionFilter) DecisionList {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := DecisionList{Last: d.last, Began: d.began, Now: time.Now(), Decisions: []Decision{}}
	oldest := d.last - uint64(len(d.ring)) + 1
	from := f.Since + 1
	if from < oldest {
		list.Dropped = oldest - from
		from = oldest
	}
	for seq := from; seq <= d.last; seq++ {
		record := d.ring[(seq-1)%ringSize]
		if f.Port != 0 && record.TargetPort != f.Port || f.Client != "" && !sameClient(record.Client, f.Client) {
			continue
		}
		list.Decisions = append(list.Decisions, record)
	}
	return list
}

// sameClient compares ip:port, or the ip alone when want has no port.
func sameClient(client, want string) bool {
	if client == want {
		return true
	}
	host, _, err := net.SplitHostPort(client)
	return err == nil && host == want
}
