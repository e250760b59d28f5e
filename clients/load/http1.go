package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// http1 is one request at a time. Answers must have a length and status 200.
type http1 struct {
	request []byte
	out     []byte
	// head gathers an answer's head when it comes in pieces, body is what is
	// missing of its body.
	head []byte
	body int
	due  time.Duration
	busy bool
}

func newHTTP1(p Plan) *http1 {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: meshproof-load\r\nAccept: */*\r\n", Path, p.Authority)
	for name, value := range p.Header {
		request = fmt.Appendf(request, "%s: %s\r\n", name, value)
	}
	return &http1{request: append(request, "\r\n"...)}
}

func (h *http1) begin(due time.Duration) bool {
	if h.busy {
		return false
	}
	h.busy, h.due, h.out = true, due, h.request
	return true
}

func (h *http1) take() []byte {
	out := h.out
	h.out = nil
	return out
}

// maxHead bounds an answer's head.
const maxHead = 16 << 10

var (
	headEnd      = []byte("\r\n\r\n")
	statusOK     = []byte("HTTP/1.1 200")
	lengthHeader = []byte("\r\ncontent-length:")
)

var errUnasked = errors.New("bytes came that nobody asked for")

func (h *http1) feed(arrived []byte, done func(time.Duration, error)) error {
	for len(arrived) > 0 {
		if !h.busy {
			return errUnasked
		}
		if h.body == 0 {
			head := arrived
			if len(h.head) > 0 {
				h.head = append(h.head, arrived...)
				head = h.head
			}
			end := bytes.Index(head, headEnd)
			if end < 0 {
				if len(head) > maxHead {
					return errors.New("endless head of an answer")
				}
				if len(h.head) == 0 {
					h.head = append(h.head, arrived...)
				}
				return nil
			}
			end += len(headEnd)
			length, err := bodyLength(head[:end])
			if err != nil {
				return err
			}
			arrived = arrived[len(arrived)-(len(head)-end):]
			h.head, h.body = h.head[:0], length
		}
		n := min(h.body, len(arrived))
		h.body -= n
		arrived = arrived[n:]
		if h.body == 0 {
			h.busy = false
			done(h.due, nil)
		}
	}
	return nil
}

// bodyLength reads status and length off a head. Anything but status 200 ends the
// load on this connection, since it would be quicker than what is measured.
func bodyLength(head []byte) (int, error) {
	if !bytes.HasPrefix(head, statusOK) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return 0, fmt.Errorf("answered with %q", line)
	}
	at := indexFold(head, lengthHeader)
	if at < 0 {
		return 0, errors.New("answered without a length")
	}
	text, _, _ := bytes.Cut(head[at+len(lengthHeader):], []byte("\r\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("answered with a body of %q", text)
	}
	return n, nil
}

// indexFold is bytes.Index for a lower-case needle in any case of ASCII.
func indexFold(in, lower []byte) int {
	for at := 0; ; at++ {
		next := bytes.IndexByte(in[at:], lower[0])
		if next < 0 || at+next+len(lower) > len(in) {
			return -1
		}
		at += next
		if bytes.EqualFold(in[at:at+len(lower)], lower) {
			return at
		}
	}
}
