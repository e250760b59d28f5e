package clients

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc/codes"
)

// frameHead is the length of what precedes each gRPC message: a compression
// flag and the message's length.
const frameHead = 5

// exchangeGRPC makes one gRPC call on this package's own HTTP/2 connection. A gRPC
// library would turn an HTTP 403 into the status PermissionDenied, and hide
// exactly the mistake that a mesh must not make; it would also lose how a
// connection ended. meshproof-grpcurl is the caller that uses the library.
func exchangeGRPC(ctx context.Context, conn *http2Conn, r Request, out *Outcome) error {
	request, err := r.grpc(ctx, io.NopCloser(bytes.NewReader(frame(r.Body))))
	if err != nil {
		return &phaseError{phaseSetup, 0, err}
	}
	before := conn.mark(out)
	response, err := conn.client.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("call %s at %s: %w", r.Method, r.Address, conn.failure(out, before, false, err))
	}
	defer response.Body.Close()
	out.answered(response, 0)
	if r.Keep {
		out.Header = flatten(response.Header)
	}
	messages := 0
	if response.StatusCode != http.StatusOK {
		out.grpcEnd(response)
		return nil
	}
	for r.Protocol == GRPC || r.Messages == 0 || messages < r.Messages {
		message, err := readFrame(response.Body)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the answer to %s at %s: %w", r.Method, r.Address, conn.failure(out, before, true, err))
		}
		messages++
		out.Bytes += int64(len(message))
		if r.Keep && len(out.Body)+len(message) <= KeepLimit {
			out.Body = append(out.Body, message...)
		}
	}
	if r.Protocol == GRPCStream && r.Messages > 0 && messages == r.Messages {
		out.Kind = Allowed
		return nil
	}
	out.grpcEnd(response)
	if r.Keep {
		out.Header = flatten(response.Header, response.Trailer)
	}
	return nil
}

// grpcEnd reads the status from the trailers, or from the headers of an answer
// that has nothing else, and decides the kind.
func (o *Outcome) grpcEnd(response *http.Response) {
	text := response.Trailer.Get("grpc-status")
	message := response.Trailer.Get("grpc-message")
	if text == "" {
		text, message = response.Header.Get("grpc-status"), response.Header.Get("grpc-message")
	}
	if decoded, err := url.PathUnescape(message); err == nil {
		message = decoded
	}
	o.Message = message
	code, err := strconv.ParseUint(text, 10, 31)
	switch {
	case response.StatusCode != http.StatusOK:
		// Not a gRPC answer, whatever its headers say.
		if o.Kind = httpKind(response.StatusCode); o.Kind == Allowed {
			o.Kind = Other
		}
	case err != nil:
		o.Kind, o.Message = Other, "the answer has no grpc-status"
	default:
		o.GRPCStatus = int(code)
		o.Kind = GRPCKind(codes.Code(code))
	}
}

// grpc returns the HTTP/2 request that carries a call. The client closes the body
// to end its own reading of it, so that of a stream must heed its Close.
func (r Request) grpc(ctx context.Context, body io.ReadCloser) (*http.Request, error) {
	plain := r
	plain.Method, plain.Path, plain.Body = http.MethodPost, r.Method, nil
	request, err := plain.http(ctx)
	if err != nil {
		return nil, err
	}
	request.Body, request.ContentLength, request.GetBody = body, -1, nil
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	return request, nil
}

// frame puts the head before a message.
func frame(message []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(out, message...)
}

// frameLimit bounds a message that is read.
const frameLimit = 4 << 20

// readFrame reads one message; io.EOF says that there are no more.
func readFrame(reader io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] != 0 || length > frameLimit {
		return nil, fmt.Errorf("message with compression flag %d and %d bytes: not one that was asked for", head[0], length)
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(reader, message); err != nil {
		return nil, fmt.Errorf("read a message of %d bytes: %w", length, err)
	}
	return message, nil
}
