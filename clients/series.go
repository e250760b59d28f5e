package clients

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Series is a call that is made many times, each with an ID of its own. What all of
// them have in common is made once: at thousands of calls a second, that is most of
// what a client would do for each. It is safe for concurrent use.
type Series struct {
	caller  *Caller
	request Request
	err     error
	call    callFunc
	key     poolKey
	// before and after are what HTTP1 sends around a call's number, as net/http wrote
	// it; nil where it has to write each call by itself. form is the request that they
	// are, for whoever reads an answer to it.
	before, after []byte
	form          *http.Request
}

// Series returns the calls of a request, the n-th of which has its ID followed by -n.
func (c *Caller) Series(r Request) *Series {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	s := &Series{caller: c, request: r, err: r.Validate(), call: c.how(r.Protocol), key: r.poolKey()}
	if r.Protocol == HTTP1 && len(r.Raw) == 0 && s.err == nil {
		s.write()
	}
	return s
}

// write has net/http write a call with a number that can be found again, so that
// every call has the bytes that it would have if it were alone.
func (s *Series) write() {
	r, number := s.request, uuid.NewString()
	if textproto.TrimString(r.ID) != r.ID {
		return // it is trimmed where it begins the header's value
	}
	r.ID += "-" + number
	request, err := r.http(context.Background())
	if err != nil {
		return
	}
	var text bytes.Buffer
	request.Close = r.Connection != Reused
	if r.write(request, &text) != nil || bytes.Count(text.Bytes(), []byte(number)) != 1 {
		return // it has another ID in its headers, for instance
	}
	s.before, s.after, _ = bytes.Cut(text.Bytes(), []byte(number))
	s.form = request
}

// heads are the buffers of requests that have been written.
var heads = sync.Pool{New: func() any { return new([]byte) }}

// Do makes the n-th call and returns what was seen, as Caller.Do does. It ends with its
// answer or its own time-out.
func (s *Series) Do(n int64) Outcome {
	r := s.request
	var digits [20]byte
	number := strconv.AppendInt(digits[:0], n, 10)
	r.ID = s.request.ID + "-" + string(number)
	out := r.begin()
	if s.err != nil {
		return out.senseless(s.err)
	}
	if s.form == nil {
		r.finish(context.Background(), &out, s.call)
		return out
	}
	send := func(to io.Writer) error {
		head := heads.Get().(*[]byte)
		*head = append(append(append((*head)[:0], s.before...), number...), s.after...)
		_, err := to.Write(*head)
		heads.Put(head)
		return err
	}
	if r.Connection == Reused {
		if conn := s.caller.pool.take(s.key); conn != nil {
			s.again(r, send, conn, &out)
			return out
		}
	}
	r.finish(context.Background(), &out, func(ctx context.Context, r Request, out *Outcome) error {
		conn, err := s.caller.open(ctx, r, out)
		if err != nil {
			return err
		}
		s.caller.describe(conn, out)
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
		defer stop()
		usable, err := s.exchange(r, send, conn, out)
		s.caller.release(conn, r, usable && stop())
		return err
	})
	return out
}

// again makes a call on a connection that others were made on. Nothing but its
// time-out can end it, so that it needs no context, only a deadline.
func (s *Series) again(r Request, send func(io.Writer) error, conn *connection, out *Outcome) {
	out.Reused = true
	s.caller.describe(conn, out)
	conn.SetDeadline(out.Start.Add(r.timeout()))
	usable, err := s.exchange(r, send, conn, out)
	if err != nil {
		out.Message = err.Error()
	}
	if usable {
		conn.SetDeadline(time.Time{})
		s.caller.pool.give(s.key, conn)
	} else {
		conn.Close()
	}
	out.End = time.Now()
}

func (s *Series) exchange(r Request, send func(io.Writer) error, conn *connection, out *Outcome) (usable bool, err error) {
	reader := readers.Get().(*bufio.Reader)
	reader.Reset(conn)
	usable, err = r.converseHTTP1(s.form, send, conn, reader, out)
	reader.Reset(nil) // it must not keep the connection
	readers.Put(reader)
	return usable, err
}
