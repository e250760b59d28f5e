package inbound

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
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

// note is a decision as it is made: what add copies into the ring, without memory
// of its own.
type note struct {
	client           netip.AddrPort
	identity, tls    string
	port             uint16
	protocol         string
	verdict, reason  string
	server, route    policy.Ref
	authz            policy.Ref
	hash             string
	method, path, id []byte
}

// slot is one place of the ring. Its texts are copied out of the connection's
// buffer: method, path and request id, one behind the other.
type slot struct {
	note
	time time.Time
	text []byte
}

// The ring comes into being page by page, with room for the texts of most requests.
const (
	pageSlots = 256
	slotText  = 96
)

// Decisions remembers the last ringSize decisions. The zero value is ready.
type Decisions struct {
	mu    sync.Mutex
	began time.Time // with the first record
	last  uint64
	pages [ringSize / pageSlots][]slot
}

// add remembers a decision. It allocates nothing when the ring is complete, but
// for texts that are longer than any before in the same place.
func (d *Decisions) add(n *note) {
	now := time.Now()
	path, id := n.path[:min(len(n.path), maxRecordedPath)], n.id[:min(len(n.id), maxRecordedPath)]
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == 0 {
		d.began = now
	}
	d.last++
	s := d.slot(d.last)
	s.note, s.time = *n, now
	s.text = append(append(append(s.text[:0], n.method...), path...), id...)
	method, ends := len(n.method), len(n.method)+len(path)
	s.method, s.path, s.id = s.text[:method], s.text[method:ends], s.text[ends:]
}

// slot is the place of a decision; d.mu is locked.
func (d *Decisions) slot(seq uint64) *slot {
	i := (seq - 1) % ringSize
	page := &d.pages[i/pageSlots]
	if *page == nil {
		*page = make([]slot, pageSlots)
		text := make([]byte, pageSlots*slotText)
		for j := range *page {
			(*page)[j].text = text[:0:slotText]
			text = text[slotText:]
		}
	}
	return &(*page)[i%pageSlots]
}

// decision is what the control port shows.
func (s *slot) decision(seq uint64) Decision {
	return Decision{
		Seq: seq, Time: s.time, Client: s.client.String(), ClientIdentity: s.identity, TLS: s.tls, TargetPort: s.port,
		Protocol: s.protocol, Method: string(s.method), Path: string(s.path), RequestID: string(s.id),
		Verdict: s.verdict, Reason: s.reason,
		Server: s.server.String(), Route: s.route.String(), Authorization: s.authz.String(), Hash: s.hash,
	}
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
	oldest := d.last - min(d.last, ringSize) + 1
	from := f.Since + 1
	if from < oldest {
		list.Dropped = oldest - from
		from = oldest
	}
	for seq := from; seq <= d.last; seq++ {
		s := d.slot(seq)
		if f.Port != 0 && s.port != f.Port {
			continue
		}
		if record := s.decision(seq); f.Client == "" || sameClient(record.Client, f.Client) {
			list.Decisions = append(list.Decisions, record)
		}
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
