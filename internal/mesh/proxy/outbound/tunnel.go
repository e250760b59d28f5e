package outbound

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// tunnel serves an HTTP/1 request that wants to become something else (H-03).
// It cannot be carried over HTTP/2, so it goes to the endpoint as HTTP/1 on a
// connection of its own; when the endpoint agrees, the bytes that follow are
// copied both ways.
func (s *session) tunnel(w http.ResponseWriter, r *http.Request) {
	upstream, e, err := s.dialTunnel(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer upstream.Close()
	e.inFlight.Add(1)
	e.metrics().requests.Inc()
	// A client that leaves before the answer takes the connection along.
	stop := context.AfterFunc(r.Context(), func() { abort(upstream) })
	defer stop()

	out := s.outgoing(r, newSparedBody(r), false)
	if upgrade := r.Header.Get("Upgrade"); r.Method != http.MethodConnect {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", upgrade)
	}
	if err := out.Write(upstream); err != nil {
		e.inFlight.Add(-1)
		s.fail(w, r, err)
		return
	}
	reader := bufio.NewReader(upstream)
	answer, err := http.ReadResponse(reader, out)
	for err == nil && answer.StatusCode >= 100 && answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols {
		answer, err = http.ReadResponse(reader, out)
	}
	if err != nil {
		e.inFlight.Add(-1)
		s.fail(w, r, err)
		return
	}
	x := exchange{answer, e}
	defer x.close()
	upgrade := answer.Header.Get("Upgrade")
	s.cleanAnswer(answer.Header, r)
	agreed := answer.StatusCode == http.StatusSwitchingProtocols ||
		r.Method == http.MethodConnect && answer.StatusCode/100 == 2
	if !agreed {
		w.Header().Set("Connection", "close")
		sendAnswer(w, r, x)
		return
	}
	if answer.StatusCode == http.StatusSwitchingProtocols {
		answer.Header.Set("Connection", "Upgrade")
		answer.Header.Set("Upgrade", upgrade)
	}
	if !stop() {
		return // the client has gone
	}
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		s.log.Warn("connection cannot be taken over", "error", err)
		return
	}
	defer conn.Close()
	client := conn.(*peekedConn)
	if n := buffered.Reader.Buffered(); n > 0 {
		ahead, _ := buffered.Reader.Peek(n)
		client.peeked = append(append([]byte(nil), ahead...), client.peeked...)
	}
	if err := writeHead(client, answer); err != nil {
		return
	}
	pipe(client, &readAhead{Conn: upstream, reader: reader})
}

// dialTunnel reaches an endpoint of the session for HTTP/1.
func (s *session) dialTunnel(ctx context.Context) (net.Conn, *endpoint, error) {
	var tried []*endpoint
	for {
		e, err := s.pick(ctx, tried)
		if err != nil {
			return nil, nil, err
		}
		session := transport.HTTP1
		if e.opaque {
			session = transport.Opaque
		}
		conn, err := e.dial(ctx, session)
		var unreached *dialError
		if err != nil && errors.As(err, &unreached) && len(tried) < maxTries-1 && ctx.Err() == nil {
			tried = append(tried, e)
			continue
		}
		return conn, e, err
	}
}

// writeHead writes status line and header and nothing after them; the library
// would add a length.
func writeHead(w io.Writer, answer *http.Response) error {
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %s\r\n", answer.Status)
	answer.Header.Write(&head)
	head.WriteString("\r\n")
	_, err := w.Write(head.Bytes())
	return err
}

// readAhead reads what a buffered reader has taken before the rest.
type readAhead struct {
	net.Conn
	reader *bufio.Reader
}

func (c *readAhead) Read(b []byte) (int, error) { return c.reader.Read(b) }

// CloseWrite half-closes the connection.
func (c *readAhead) CloseWrite() error { return closeWrite(c.Conn) }
