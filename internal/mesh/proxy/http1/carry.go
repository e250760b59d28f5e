package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Carrier asks an application in HTTP/1 what came in another protocol (H-01), one
// request after the other, over a connection of its own. It keeps to what Conn
// promises of the application's side.
type Carrier struct {
	relay  *Relay
	limits *Limits
	dial   func() (net.Conn, error)

	app end
	// open: app is connected. used: it has carried a request before.
	open, used bool
	// sender is the goroutine that sends a body.
	sender sync.WaitGroup

	request  request
	response response
	down     framing
	out      []byte
}

// Carried is a request for a Carrier.
type Carried struct {
	Method, Scheme, Authority []byte
	// Path is raw; Query, if there is one, follows it.
	Path, Query []byte
	HasQuery    bool
	// Absolute: the target is written with scheme and authority.
	Absolute bool
	// Fields are those the application is to see, besides those that frame the
	// message, which are left out. A client's own l5d-client-id must not be in it.
	Fields []Field
	// Body is NoBody, Length or Chunked.
	Body   Body
	Length int64
	// Source gives the body's bytes, and Trailers what follows them, asked for at its end.
	Source   io.Reader
	Trailers func() []Field
}

// Sink takes an answer. The slices are its for the call only.
type Sink interface {
	// Head takes the answer's head; statuses below 200 may precede another one.
	Head(status int, fields []Field, end bool) error
	Body(b []byte) error
	End(trailers []Field) error
}

// ErrUnfit is a request that cannot be said in HTTP/1: 400.
var ErrUnfit = errors.New("not to be said in HTTP/1")

// Carrier makes one; dial is Config.Dial. Close ends it.
func (r *Relay) Carrier(dial func() (net.Conn, error)) *Carrier {
	r.setDefaults()
	return &Carrier{relay: r, limits: &r.limits, dial: dial}
}

// Close hangs up, and Wait waits for what still sends a body. A body's source
// must have ended, or fail, for that.
func (k *Carrier) Close() {
	if k.open {
		k.app.conn.Close()
		k.app.use(len(k.app.bytes()))
		k.open = false
	}
}

// Wait returns when nothing of the carrier runs any more.
func (k *Carrier) Wait() { k.sender.Wait() }

// Do sends the request and hands the answer to the sink. ctx ends with the client's
// interest. status is that of the final head handed over, 0 for none; grpcStatus is
// -1 unless the application sent a number. err is nil, ErrUnfit, or as in
// Handler.Responded. reusable says that Do may be called again; else Close is to follow.
func (k *Carrier) Do(ctx context.Context, c *Carried, sink Sink) (status, grpcStatus int, reusable bool, err error) {
	if err := k.write(c); err != nil {
		return 0, -1, k.open, err
	}
	again := k.open && c.Body == NoBody && repeatable(c.Method)
	if err := k.connect(); err != nil {
		return 0, -1, false, &DialError{err}
	}
	for {
		status, grpcStatus, err = k.exchange(ctx, c, sink)
		if status != 0 || !again || !errors.Is(err, errNoAnswer) || ctx.Err() != nil {
			break
		}
		again = false
		k.Close()
		if err := k.connect(); err != nil {
			return 0, -1, false, &DialError{err}
		}
	}
	if ctx.Err() != nil && err != nil {
		err = errGone
	}
	if !k.used {
		k.Close()
	}
	return status, grpcStatus, k.open, err
}

// connect makes sure that there is a connection on which nothing has happened since
// the last answer.
func (k *Carrier) connect() error {
	if k.open && k.app.silent() {
		return nil
	}
	k.Close()
	conn, err := k.dial()
	if err != nil {
		return err
	}
	k.app.init(conn)
	k.open, k.used = true, false
	return nil
}

// exchange sends what write has made and reads the answer. k.used is set when the
// connection may carry another request.
func (k *Carrier) exchange(ctx context.Context, c *Carried, sink Sink) (status, grpc int, err error) {
	k.used = false
	conn := k.app.conn
	release := context.AfterFunc(ctx, func() { conn.Close() }) // whoever waits there ends
	if err := k.app.write(k.out, time.Now(), k.limits.Stall); err != nil {
		release()
		k.stalled(err)
		return 0, -1, errNoAnswer
	}
	var sent chan error
	if c.Body != NoBody {
		sent = make(chan error, 1)
		k.sender.Go(func() { sent <- k.send(conn, c) })
	}
	status, grpc, err = k.answer(sink)
	failed := error(nil)
	if sent != nil {
		failed = k.settle(ctx, sent)
	}
	k.used = release() && failed == nil && err == nil && !k.response.close && len(k.app.bytes()) == 0
	if status == 0 && errors.Is(failed, ErrClient) {
		err = failed
	}
	return status, grpc, err
}

// settle gives a sender a moment to come to its end after the answer has.
func (k *Carrier) settle(ctx context.Context, sent <-chan error) error {
	select {
	case err := <-sent:
		return err
	default:
	}
	timer := time.NewTimer(k.limits.Linger)
	defer timer.Stop()
	select {
	case err := <-sent:
		return err
	case <-timer.C:
	case <-ctx.Done():
	}
	return errNotTaken
}

// answer reads the heads and the body of an answer.
func (k *Carrier) answer(sink Sink) (status, grpc int, err error) {
	a := &k.response
	size := 0
	for informational := 0; ; k.app.use(size) {
		if size, err = k.readHead(); err != nil {
			if informational > 0 && errors.Is(err, errNoAnswer) {
				err = errBrokeOff // it had begun
			}
			return 0, -1, err
		}
		refused := a.parse(k.app.bytes()[:size], &k.request, k.limits)
		if refused == nil && a.status/100 == 1 {
			if informational++; informational > k.limits.Informational {
				refused = errInformational
			}
		}
		if refused != nil {
			k.tell(refused)
			return 0, -1, errMalformed
		}
		if a.status/100 != 1 {
			break
		}
		if (a.status != http.StatusContinue || k.request.expects) && sink.Head(a.status, a.fields, false) != nil {
			return 0, -1, errGone
		}
	}
	status, grpc = a.status, -1
	if a.grpcStatus != nil {
		grpc = number(a.grpcStatus)
	}
	f := &k.down
	f.begin(a.body, a.length, k.limits)
	f.answer, f.payload, f.keeps = true, true, true
	err = sink.Head(status, a.fields, f.done)
	k.app.use(size)
	if err != nil {
		return status, -1, errGone
	}
	if f.done {
		return status, grpc, nil
	}
	for {
		b := k.app.bytes()
		n, used, refused := f.next(b)
		if refused != nil {
			k.tell(refused)
			return status, -1, errMalformed
		}
		if n > 0 && sink.Body(b[:n]) != nil {
			return status, -1, errGone
		}
		k.app.use(used)
		if f.done {
			break
		}
		if err := k.app.fill(); err != nil {
			if a.body == ToClose && isEnd(err) {
				break
			}
			return status, -1, errBrokeOff
		}
	}
	if f.grpcStatus >= 0 {
		grpc = f.grpcStatus
	}
	if sink.End(f.kept) != nil {
		return status, grpc, errGone
	}
	return status, grpc, nil
}

// readHead reads until an answer's head is whole.
func (k *Carrier) readHead() (size int, err error) {
	e := &k.app
	for scanned := 0; ; {
		b := e.bytes()
		size, refused := headEnd(b, scanned)
		if refused == nil && (size > k.limits.Head || size == 0 && len(b) >= k.limits.Head) {
			refused = errHeadLimit
		}
		if refused != nil {
			k.tell(refused)
			return 0, errMalformed
		}
		if size > 0 {
			return size, nil
		}
		if scanned = len(b); e.buf != nil && scanned == len(e.buf.data) {
			e.buf.grow(k.limits.Head)
		}
		if err := e.fill(); err != nil {
			if scanned > 0 {
				return 0, errBrokeOff
			}
			return 0, errNoAnswer
		}
	}
}

// write makes the request's head.
func (k *Carrier) write(c *Carried) error {
	if !all(c.Method, methodByte) || len(c.Method) > longestMethod || string(c.Method) == "CONNECT" || !validHost(c.Authority) || !all(c.Path, targetByte) || c.HasQuery && len(c.Query) > 0 && !all(c.Query, targetByte) {
		return ErrUnfit
	}
	k.request = request{headOnly: string(c.Method) == "HEAD"}
	b := append(k.out[:0], c.Method...)
	b = append(b, ' ')
	if c.Absolute {
		b = append(append(append(b, c.Scheme...), "://"...), c.Authority...)
	}
	if !c.Absolute || string(c.Path) != "*" { // no path asks for the whole server there
		b = append(b, c.Path...)
	}
	if c.HasQuery {
		b = append(append(b, '?'), c.Query...)
	}
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), c.Authority...), "\r\n"...)
	trailers := false
	for i := range c.Fields {
		f := &c.Fields[i]
		kind, hidden := kindOf(f.Name)
		if hidden && kind.frames() || !all(f.Name, tokenByte) || len(f.Value) > 0 && !all(f.Value, valueByte) {
			return ErrUnfit
		}
		switch {
		case kind == te:
			trailers = sameFold(f.Value, "trailers")
		case kind == expect:
			k.request.expects = sameFold(f.Value, "100-continue")
			b = appendField(b, f)
		case kind == origProto || kind.frames():
		default:
			b = appendField(b, f)
		}
	}
	switch c.Body {
	case Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case Length:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), c.Length, 10), "\r\n"...)
	}
	if trailers {
		b = append(b, "TE: trailers\r\n"...)
	}
	k.out = append(b, "\r\n"...)
	return nil
}

// send passes a body on. When that cannot be whole the application is hung up on: it
// must not take a part for it.
func (k *Carrier) send(app net.Conn, c *Carried) error {
	const before, after = len("ffff\r\n"), len("\r\n")
	buf := getBuffer()
	defer buf.put()
	for {
		n, err := c.Source.Read(buf.data[before : len(buf.data)-after])
		b := buf.data[before : before+n]
		if c.Body == Chunked && n > 0 {
			size := append(strconv.AppendInt(make([]byte, 0, before), int64(n), 16), "\r\n"...)
			copy(buf.data[before-len(size):], size)
			b = append(buf.data[before-len(size):before+n], "\r\n"...)
		}
		if err == io.EOF && c.Body == Chunked {
			b = appendLast(append([]byte(nil), b...), c.Trailers())
		}
		if len(b) > 0 {
			app.SetWriteDeadline(time.Now().Add(k.limits.Stall))
			if _, err := app.Write(b); err != nil {
				k.stalled(err)
				return errNotTaken
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			app.Close()
			return fmt.Errorf("%w: its body broke off: %w", ErrClient, err)
		}
	}
}

// appendLast writes the last chunk and the trailers that may pass.
func appendLast(b []byte, trailers []Field) []byte {
	b = append(b, "0\r\n"...)
	var f framing
	for i := range trailers {
		t := &trailers[i]
		if f.trailerPasses(*t) && all(t.Name, tokenByte) && (len(t.Value) == 0 || all(t.Value, valueByte)) {
			b = appendField(b, t)
		}
	}
	return append(b, "\r\n"...)
}

// stalled looks at why the application did not take something.
func (k *Carrier) stalled(err error) {
	if isTimeout(err) {
		k.relay.bite(StallLimit)
	}
}

func (k *Carrier) tell(r *refusal) {
	if r.limited {
		k.relay.bite(r.limit)
	} else if k.relay.Malformed != nil {
		k.relay.Malformed(Application, r)
	}
}
