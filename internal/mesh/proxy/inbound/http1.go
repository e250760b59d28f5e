package inbound

import (
	"net"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// serveHTTP1 has the connection relayed to its end, and does not wait for that: the
// stack that detection and a handshake have made grow must not last as long as the
// connection.
func (s *Server) serveHTTP1(sess *session, conn net.Conn) {
	plain, seen := unpeek(conn)
	relay := s.http1.Conn(http1.Config{Client: unwatched(plain), Seen: seen, Dial: sess.dial, Handler: &calls1{sess: sess}})
	sess.enterHTTP(relay)
	s.handlers.Go(func() {
		defer sess.end()
		relay.Serve()
	})
}

// calls1 decides on the requests of one HTTP/1 connection, of which one at a time is
// in progress.
type calls1 struct {
	sess *session
	call call
	head policy.Head
	// dst stands in for an authority that was not said (H-12).
	dst []byte
}

// Decide implements http1.Handler.
func (h *calls1) Decide(head *http1.Head, a *http1.Action) {
	s, c := h.sess.server, &h.call
	*c = call{sess: h.sess, start: head.Received, snap: h.sess.cell.current.Load(), http1: true, absolute: head.Form == http1.Absolute}
	a.Token = c
	if !s.enter() {
		h.answer(a, s.overloaded())
		return
	}
	h.fill(head)
	c.head = &h.head
	refused := s.judge(c)
	if !c.permitted {
		h.answer(a, refused)
		return
	}
	a.Verdict, a.Path = http1.Forward, c.made.Path
	if edits := c.made.Edits; edits != nil {
		a.Remove, a.Set, a.Append = append(a.Remove, edits.Remove...), append(a.Set, edits.Set...), append(a.Append, edits.Append...)
	}
	if id := h.sess.client.Identity; id != "" {
		a.Append = append(a.Append, http1.Header{Name: headerClientID, Value: id})
	}
}

// fill makes h.head what the policy looks at.
func (h *calls1) fill(head *http1.Head) {
	to := &h.head
	to.Method, to.Path, to.Query, to.Host, to.Fields, to.Now = head.Method, head.Path, head.Query, head.Authority, head.Fields, head.Received
	if len(to.Host) == 0 {
		if h.dst == nil {
			h.dst = []byte(h.sess.dst.String())
		}
		to.Host = h.dst
	}
}

func (h *calls1) answer(a *http1.Action, r reply) {
	a.Verdict, a.Status, a.Close = http1.Answer, r.status, r.close
	a.Fields = explain(a.Fields, &names1, &h.call, r)
}

// Failed implements http1.Handler.
func (h *calls1) Failed(_ any, err error, a *http1.Action) {
	h.answer(a, h.sess.server.unanswered(&h.call, err))
}

// Responded implements http1.Handler.
func (h *calls1) Responded(_ any, status, grpcStatus int, err error) {
	h.sess.server.responded(&h.call, status, grpcStatus, err)
}
