package http2

import "net"

// Conn relays one client connection.
type Conn struct {
	cfg     *Config
	handler Handler
}

// New takes over client, whose next byte is the first of the preface.
func New(client net.Conn, handler Handler, cfg *Config) *Conn {
	return &Conn{cfg: cfg, handler: handler}
}

// Serve relays until the connection ends, closes it and those to the application,
// and returns why it ended: nil when the client left or was drained.
func (c *Conn) Serve() error { panic("not yet") }

// Drain tells the client to go away and lets streams in progress finish; Serve
// returns after the last. It may be called at any time, more than once.
func (c *Conn) Drain() { panic("not yet") }

// Cut ends all connections at once, with a reset.
func (c *Conn) Cut() { panic("not yet") }
