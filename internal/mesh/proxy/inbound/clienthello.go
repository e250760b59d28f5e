package inbound

// hello is what a first flight says.
type hello struct {
	// decided is false while more bytes are needed.
	decided bool
	// tls: the bytes are a ClientHello. serverName and protocols may be empty.
	tls        bool
	serverName string
	protocols  []string
	// long: it is no hello to us because it is longer than maxClientHello.
	long bool
}

const (
	recordHandshake = 0x16
	typeClientHello = 0x01
	extServerName   = 0
	extALPN         = 16
	recordHeader    = 5
	handshakeHeader = 4
)

// parseHello reads a ClientHello, which may span several records. Whatever does
// not parse is decided not to be TLS: it is then judged as a client without identity.
func parseHello(b []byte) hello {
	notTLS := hello{decided: true}
	var message []byte
	rest := b
	for {
		if len(rest) == 0 {
			return hello{}
		}
		if rest[0] != recordHandshake {
			return notTLS
		}
		if len(rest) >= 2 && rest[1] != 3 {
			return notTLS
		}
		if len(message) == 0 && len(rest) > recordHeader && rest[recordHeader] != typeClientHello {
			return notTLS
		}
		if len(rest) < recordHeader {
			return hello{}
		}
		length := int(rest[3])<<8 | int(rest[4])
		if length == 0 {
			return notTLS
		}
		body := rest[recordHeader:]
		if len(body) < length {
			if len(b) >= maxClientHello {
				return hello{decided: true, long: true}
			}
			return hello{}
		}
		message = append(message, body[:length]...)
		rest = body[length:]
		if len(message) < handshakeHeader {
			continue
		}
		want := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
		if want > maxClientHello {
			return hello{decided: true, long: true}
		}
		if len(message) >= handshakeHeader+want {
			return parseClientHello(message[handshakeHeader : handshakeHeader+want])
		}
	}
}

// reader takes lengths and fields off a message; once short, it stays bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// vector reads a field whose length is in its first size bytes.
func (r *reader) vector(size int) reader {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	v := r.take(n)
	return reader{b: v, bad: r.bad}
}

// canonicalName is a DNS name in the form that names are compared in (T-13). Only
// ASCII has cases there: the Kelvin sign is not a k.
func canonicalName(name []byte) string {
	lower := make([]byte, len(name))
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return string(lower)
}

func parseClientHello(b []byte) hello {
	const versionAndRandom = 2 + 32
	h := hello{decided: true}
	r := reader{b: b}
	r.take(versionAndRandom)
	r.vector(1) // session
	r.vector(2) // cipher suites
	r.vector(1) // compression
	if r.bad {
		return h
	}
	if len(r.b) == 0 {
		h.tls = true // of an old client, which has no extensions
		return h
	}
	extensions := r.vector(2)
	for len(extensions.b) > 0 && !extensions.bad {
		kind := extensions.take(2)
		body := extensions.vector(2)
		if extensions.bad {
			break
		}
		switch int(kind[0])<<8 | int(kind[1]) {
		case extServerName:
			names := body.vector(2)
			for len(names.b) > 0 && !names.bad {
				host := names.take(1)
				name := names.vector(2)
				if !names.bad && host[0] == 0 {
					h.serverName = canonicalName(name.b)
				}
			}
		case extALPN:
			list := body.vector(2)
			for len(list.b) > 0 && !list.bad {
				h.protocols = append(h.protocols, string(list.vector(1).b))
			}
		}
	}
	if extensions.bad {
		return hello{decided: true}
	}
	h.tls = true
	return h
}
