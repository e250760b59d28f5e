package http2

import "context"

// Stream is one request that the Handler has to itself. Its methods may be called
// from several goroutines; reading and writing are independent of each other.
type Stream struct {
	head  Head
	token any
}

// Head is the request head as the Action changed it.
func (s *Stream) Head() *Head { return &s.head }

// Token is what Decide left in the Action.
func (s *Stream) Token() any { return s.token }

// Context ends when the client resets the stream or its connection ends.
func (s *Stream) Context() context.Context { panic("not yet") }

// Read takes of the request body: io.EOF at its end, ErrCanceled when the client
// reset the stream. Bytes are credited to the client as they are read.
func (s *Stream) Read(p []byte) (int, error) { panic("not yet") }

// Trailers are the request's, without what a trailer may not carry; nil before
// Read has returned io.EOF.
func (s *Stream) Trailers() []Field { panic("not yet") }

// WriteHead sends a response head. Statuses below 200 may precede another head.
// Connection-specific fields and l5d-orig-proto are left out. With end no body follows.
func (s *Stream) WriteHead(status int, fields []Field, end bool) error { panic("not yet") }

// Write sends body bytes as the client's windows allow, waiting for them.
func (s *Stream) Write(p []byte) (int, error) { panic("not yet") }

// End ends the response, with trailers when there are any.
func (s *Stream) End(trailers []Field) error { panic("not yet") }

// Reset breaks the stream off.
func (s *Stream) Reset(code ErrCode) { panic("not yet") }
