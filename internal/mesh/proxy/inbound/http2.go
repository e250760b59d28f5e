package inbound

import (
	"bytes"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http2"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// serveHTTP2 has the connection relayed to its end, as serveHTTP1 has.
func (s *Server) serveHTTP2(sess *session, conn net.Conn) {
	plain, seen := unpeek(conn)
	h := &calls2{sess: sess}
	h.relay = http2.New(unwatched(plain), seen, h, &http2.Config{Dial: sess.dialContext, Limits: s.cfg.fixed.http2, Bite: s.bitten2, Malformed: s.malformed2})
	sess.enterHTTP(h.relay)
	s.handlers.Go(func() {
		defer sess.end()
		h.relay.Serve()
		h.carriers.close()
	})
}

// calls2 decides on the requests of one HTTP/2 connection. The relay asks it for one
// request at a time, but any number may be in progress.
type calls2 struct {
	sess  *session
	relay *http2.Conn
	head  policy.Head
	// fields and cookie are what whole makes.
	fields []http2.Field
	cookie []byte
	// carriers serve the requests that are HTTP/1's (H-01).
	carriers carriers
}

// pooled are calls that have ended. A call of HTTP/2 is its relay's token.
var pooled = sync.Pool{New: func() any { return new(call) }}

// Decide implements http2.Handler.
func (h *calls2) Decide(head *http2.Head, a *http2.Action) {
	s, c := h.sess.server, pooled.Get().(*call)
	*c = call{sess: h.sess, start: time.Now(), snap: h.sess.cell.current.Load(), grpc: head.GRPC}
	c.carries(head.OrigProto)
	a.Token = c
	if !s.enter() {
		c.answer2(a, s.overloaded())
		return
	}
	if !authorityForm(head.Authority) {
		// Applications read such a head in more than one way.
		c.answer2(a, reply{status: http.StatusBadRequest, close: true})
		return
	}
	h.fill(head, c.start)
	c.head = &h.head
	refused := s.judge(c)
	c.head = nil
	if !c.permitted {
		c.answer2(a, refused)
		return
	}
	if string(head.Method) == http.MethodConnect {
		// There is no tunnel but HTTP/1's.
		c.permitted = false
		c.answer2(a, reply{status: http.StatusMethodNotAllowed})
		return
	}
	a.Verdict, a.Path = http2.Forward, c.made.Path
	if c.carried {
		a.Verdict = http2.HandOut
	}
	if edits := c.made.Edits; edits != nil {
		a.Remove, a.Set, a.Append = append(a.Remove, edits.Remove...), append(a.Set, edits.Set...), append(a.Append, edits.Append...)
	}
	if id := h.sess.client.Identity; id != "" {
		a.Append = append(a.Append, http2.Header{Name: headerClientID, Value: id})
	}
}

// carries reads off the value of l5d-orig-proto what HTTP/2 carries (H-01).
func (c *call) carries(proto []byte) {
	if !bytes.HasPrefix(proto, []byte("HTTP/1")) {
		return
	}
	c.http1, c.carried, c.grpc = true, true, false
	for rest := range bytes.SplitSeq(proto, []byte(";")) {
		c.absolute = c.absolute || string(bytes.TrimSpace(rest)) == "absolute-form"
	}
}

// fill makes h.head what the policy looks at.
func (h *calls2) fill(head *http2.Head, now time.Time) {
	to := &h.head
	to.Method, to.Path, to.Query, to.Host, to.Fields, to.Now = head.Method, head.Path, head.Query, head.Authority, h.whole(head.Fields), now
}

// whole puts the cookies together that HTTP/2 may split (RFC 9113, section 8.2.3): what
// is matched and what HTTP/1 gets is one field. The slices are valid until the next call.
func (h *calls2) whole(fields []http2.Field) []http2.Field {
	crumbs := 0
	for i := range fields {
		if string(fields[i].Name) == cookieName {
			crumbs++
		}
	}
	if crumbs < 2 {
		return fields
	}
	h.fields, h.cookie = h.fields[:0], h.cookie[:0]
	at := -1
	for _, f := range fields {
		switch {
		case string(f.Name) != cookieName:
			h.fields = append(h.fields, f)
			continue
		case at < 0:
			at = len(h.fields)
			h.fields = append(h.fields, f)
		default:
			h.cookie = append(h.cookie, "; "...)
		}
		h.cookie = append(h.cookie, f.Value...)
	}
	h.fields[at].Value = h.cookie
	return h.fields
}

const cookieName = "cookie"

// answer2 writes the answer in the form that the request's content type asks for
// (N-01, N-02).
func (c *call) answer2(a *http2.Action, r reply) {
	a.Verdict, a.Close = http2.Answer, r.close
	a.Status, a.Fields = c.form2(a.Fields, r)
}

func (c *call) form2(to []http2.Header, r reply) (status int, fields []http2.Header) {
	status = r.status
	to = append(to, http2.Header{Name: "content-length", Value: "0"}, http2.Header{Name: "date", Value: date(time.Now())})
	if c.grpc {
		status = http.StatusOK
		to = append(to, http2.Header{Name: "content-type", Value: "application/grpc"}, http2.Header{Name: "grpc-status", Value: grpcCode(r)})
		if message := c.told(r); message != "" {
			to = append(to, http2.Header{Name: "grpc-message", Value: message})
		}
	}
	return status, explain(to, &names2, c, r)
}

// second is a date as it is written.
type second struct {
	unix int64
	text string
}

var lastDate atomic.Pointer[second]

// date is the time of day for the proxy's own answers, made once in a second.
func date(now time.Time) string {
	if d := lastDate.Load(); d != nil && d.unix == now.Unix() {
		return d.text
	}
	d := &second{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}

// Failed implements http2.Handler.
func (h *calls2) Failed(token any, err error, a *http2.Action) {
	c := token.(*call)
	c.answer2(a, h.sess.server.unanswered(c, err))
}

// Responded implements http2.Handler.
func (h *calls2) Responded(token any, status, grpcStatus int, err error) {
	c := token.(*call)
	h.sess.server.responded(c, status, grpcStatus, err)
	*c = call{}
	pooled.Put(c)
}

// Serve implements http2.Handler.
func (h *calls2) Serve(stream *http2.Stream) {
	c := stream.Token().(*call)
	status, grpc, err := h.carry(stream, c)
	h.Responded(c, status, grpc, err)
}
