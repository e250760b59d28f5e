package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// lineLimit bounds a line that is awaited from the peer.
const lineLimit = 64 << 10

// tcp makes one exchange on a bare connection. What counts as an answer is one
// line, or whatever of it there is when the peer pauses: a byte from behind the
// proxy proves that the connection was let through.
func (c *Caller) tcp(ctx context.Context, r Request, out *Outcome) error {
	conn, err := c.connect(ctx, r, out)
	if err != nil {
		return err
	}
	usable := false
	defer func() { c.release(conn, r, usable) }()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
	defer stop()
	before := conn.received.Load()
	fail := func(what string, err error) error {
		if loss := conn.loss(); loss != nil {
			err = loss
		}
		out.Bytes = conn.received.Load() - before
		out.Kind = lossKind(err, out.Bytes > 0)
		return fmt.Errorf("%s %s: %w", what, r.Address, err)
	}
	reader := bufio.NewReaderSize(conn, lineLimit)
	read := func(what string) error {
		_, err := reader.ReadSlice('\n')
		out.Bytes = conn.received.Load() - before
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
			return nil
		case out.Bytes > 0 && errors.Is(err, os.ErrDeadlineExceeded):
			// The peer's application spoke, only not in lines.
			return nil
		}
		return fail(what, err)
	}
	switch r.Protocol {
	case Dial:
		out.Kind = Allowed
		return nil
	case Connect:
		conn.SetReadDeadline(time.Now().Add(settleTime))
		_, err := reader.Peek(1)
		out.Bytes = conn.received.Load() - before
		if err != nil && (ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return fail("watch the connection to", err)
		}
		out.Kind = Allowed
		return nil
	case TCPSilent:
		if err := read("await a word from"); err != nil {
			return err
		}
	case TCPServerFirst:
		if !out.Reused {
			if err := read("await the greeting of"); err != nil {
				return err
			}
		}
		fallthrough
	case TCP:
		if _, err := conn.Write(r.line()); err != nil {
			// Not the end: a peer that closed first may have said why.
			conn.loss()
		}
		if err := read("await the echo of"); err != nil {
			return err
		}
	}
	if out.Kind = Allowed; len(r.Raw) == 0 && bytes.HasPrefix(conn.began(), []byte(http1Begins)) {
		// Somebody took the line for a request, and said so.
		out.Kind = ProtocolError
		return nil
	}
	usable = stop() && reader.Buffered() == 0 && r.Protocol != TCPSilent
	return nil
}

// line is what a TCP call sends: the id, the body when there is one, a newline,
// or what is to be sent in its place.
func (r Request) line() []byte {
	if len(r.Raw) > 0 {
		return r.Raw
	}
	line := []byte(r.ID)
	if len(r.Body) > 0 {
		line = append(append(line, ' '), r.Body...)
	}
	return append(line, '\n')
}
