package clients

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
)

// UpgradeToken is the protocol that HTTPUpgrade asks for: lines that come back.
const UpgradeToken = "meshproof-echo"

// tunnel opens a tunnel and sends one line through it. An answer that opens none
// is the call's answer; what becomes of the tunnel afterwards is told as of a TCP
// connection.
func (c *Caller) tunnel(ctx context.Context, r Request, out *Outcome) error {
	conn, err := c.connect(ctx, r, out)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
	defer stop()
	through, err := r.openTunnel(ctx, conn, out)
	if err != nil || through == nil {
		return err
	}
	before := conn.received.Load()
	if _, err := conn.Write(r.line()); err != nil {
		conn.loss()
	}
	_, err = through.ReadSlice('\n')
	out.Bytes = conn.received.Load() - before
	if err != nil && out.Bytes == 0 {
		if loss := conn.loss(); loss != nil {
			err = loss
		}
		out.Kind = lossKind(err, false)
		return fmt.Errorf("await the echo through the tunnel to %s: %w", r.Address, err)
	}
	out.Kind = Allowed
	return nil
}

// openTunnel asks for the tunnel and returns the reader of what comes out of it;
// nil says that the answer was another one, and out has it.
func (r Request) openTunnel(ctx context.Context, conn *connection, out *Outcome) (*bufio.Reader, error) {
	plain := r
	if r.Protocol == HTTPConnect {
		plain.Method, plain.Path = http.MethodConnect, r.host()
	}
	plain.Body = nil
	request, err := plain.http(ctx)
	if err != nil {
		return nil, &phaseError{phaseSetup, 0, err}
	}
	opened := http.StatusOK
	if r.Protocol == HTTPUpgrade {
		opened = http.StatusSwitchingProtocols
		request.Header.Set("Connection", "Upgrade")
		request.Header.Set("Upgrade", UpgradeToken)
	}
	if err := request.Write(conn); err != nil {
		conn.loss()
	}
	reader := bufio.NewReaderSize(conn, lineLimit)
	response, err := finalResponse(reader, request)
	if err != nil {
		if loss := conn.loss(); loss != nil {
			err = loss
		}
		out.Kind = lossKind(err, conn.received.Load() > 0)
		if out.Kind == Other && !speaksHTTP1(conn.began()) {
			out.Kind = ProtocolError
		}
		return nil, fmt.Errorf("read the answer to %s %s: %w", request.Method, r.Address, err)
	}
	if response.StatusCode == opened {
		out.answered(response, 0)
		return reader, nil
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	out.answered(response, n)
	if err != nil {
		return nil, fmt.Errorf("read the body of the answer to %s %s: %w", request.Method, r.Address, err)
	}
	out.Kind = httpKind(response.StatusCode)
	if r.Protocol == HTTPUpgrade && response.StatusCode == http.StatusOK {
		// The application answered the request and did not switch.
		out.Kind = Allowed
	}
	return nil, nil
}
