package inbound

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"
)

// A tunnel keeps the verdict it was opened with until it ends, unless its port
// becomes opaque or TLS and no authorization covers the client (session.recheck).

// upgrade joins the connections after the application has switched protocols (H-03).
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, c *call, res *http.Response) {
	up, ok := res.Body.(io.ReadWriteCloser)
	if !ok || r.ProtoMajor != 1 {
		res.Body.Close()
		s.answer(w, c, reply{status: http.StatusBadGateway, message: "application switched protocols unasked", close: true})
		return
	}
	defer up.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.answer(w, c, reply{status: http.StatusInternalServerError, message: "unexpected error", close: true})
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	s.observeStatus(c, res.StatusCode)
	res.Body = nil
	if res.Write(buffered) != nil || buffered.Flush() != nil {
		return
	}
	s.tunnel(conn, buffered.Reader, up)
}

// connect opens a tunnel by CONNECT over HTTP/1; other versions have none.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, c *call) {
	if r.ProtoMajor != 1 {
		s.answer(w, c, reply{status: http.StatusMethodNotAllowed})
		return
	}
	up, err := s.dialFor(c.sess)(r.Context())
	if err != nil {
		s.failed(w, r, c, err)
		return
	}
	defer up.Close()
	out := outgoing(r, c)
	out.Body, out.ContentLength = nil, 0
	out.URL.Path, out.URL.Opaque = "", ""
	up.SetDeadline(time.Now().Add(headerTimeout))
	if err := out.Write(up); err != nil {
		s.failed(w, r, c, err)
		return
	}
	answers := bufio.NewReader(up)
	res, err := http.ReadResponse(answers, out)
	if err != nil {
		s.failed(w, r, c, err)
		return
	}
	up.SetDeadline(time.Time{})
	if res.StatusCode < 200 || res.StatusCode > 299 {
		stripHops(res.Header, false)
		copyHeader(w.Header(), res.Header)
		w.WriteHeader(res.StatusCode)
		err := copyBody(w, res)
		s.observe(c, res, err)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.answer(w, c, reply{status: http.StatusInternalServerError, message: "unexpected error", close: true})
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	s.observeStatus(c, res.StatusCode)
	if _, err := buffered.WriteString("HTTP/1.1 200 OK\r\n\r\n"); err != nil || buffered.Flush() != nil {
		return
	}
	s.tunnel(conn, buffered.Reader, struct {
		io.Reader
		io.Writer
		io.Closer
	}{answers, up, up})
}

// tunnel copies both ways; either end closing ends both.
func (s *Server) tunnel(conn net.Conn, fromClient io.Reader, up io.ReadWriteCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, fromClient)
		up.Close()
	}()
	io.Copy(conn, up)
	conn.Close()
	<-done
}
