package http1

// Conn is one client connection.
type Conn struct {
	relay *Relay
	cfg   Config
}

// Conn makes a connection that Serve is to be called for.
func (r *Relay) Conn(cfg Config) *Conn { return &Conn{relay: r, cfg: cfg} }

// Serve relays until the connection ends, by either side, by a limit, by Drain or
// because somebody closed it. It closes the client's connection and the
// application's, and returns when nothing of it runs any more.
func (c *Conn) Serve() {}

// Drain asks the connection to end when the request under way is answered, at
// once if there is none: the answer says so (Connection: close). It may be
// called at any time, also more than once. Who wants it to end now closes the
// client's connection and those that Dial has returned; tunnels know no drain.
func (c *Conn) Drain() {}
