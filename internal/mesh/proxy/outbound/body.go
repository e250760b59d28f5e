package outbound

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// keptBody is how much of a body that was read is kept to be sent again.
const keptBody = 64 << 10

// errBodyGone: more of the body was read than is kept.
var errBodyGone = errors.New("too much of the body was sent to send it again")

// sparedBody lets a request be sent again, to another endpoint as long as its body
// is untouched, and to the same one as long as what was read of it is kept: a peer
// that ends a connection in good order (GOAWAY) says which requests it never looked
// at, and what of them was on its way is lost. It also lets trailers through that
// may leave.
//
// Readers do not close the source, which its server does when the request is over:
// a transport closes the body of a request that it could not send.
type sparedBody struct {
	source io.Reader
	taken  atomic.Bool
	// came is filled by the server when the body ends, trailer then by Read.
	came, trailer http.Header

	mu sync.Mutex
	// read is told when somebody has read from the source, which only one does at a
	// time (reading).
	read    sync.Cond
	reading bool
	// current is the reader that counts; those before it are given nothing any more.
	current *bodyReader
	// kept is what was read, unless that is too much (over).
	kept []byte
	over bool
	// end is what the source has ended with.
	end error
}

func newSparedBody(r *http.Request) *sparedBody {
	b := &sparedBody{source: r.Body, came: r.Trailer}
	b.read.L = &b.mu
	for name := range r.Trailer {
		if !slices.Contains(forged, name) {
			if b.trailer == nil {
				b.trailer = http.Header{}
			}
			b.trailer[name] = nil
		}
	}
	return b
}

// reader reads the body from its beginning, in place of the reader before.
func (b *sparedBody) reader() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = &bodyReader{body: b}
	b.read.Broadcast()
	return b.current
}

// again is reader, unless the beginning is gone.
func (b *sparedBody) again() (io.ReadCloser, error) {
	b.mu.Lock()
	over := b.over
	b.mu.Unlock()
	if over {
		return nil, errBodyGone
	}
	return b.reader(), nil
}

// bodyReader is one reading of a body.
type bodyReader struct {
	body *sparedBody
	// at is how much of what is kept it has given.
	at int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
	b.taken.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.current != r:
			return 0, io.ErrClosedPipe
		case r.at < len(b.kept):
			n := copy(p, b.kept[r.at:])
			r.at += n
			return n, nil
		case b.end != nil:
			return 0, b.end
		case !b.reading:
			return r.more(p)
		}
		b.read.Wait()
	}
}

// more reads from the source; mu is held, but not while it waits. What comes when
// the reader does not count any more is kept for the one that does.
func (r *bodyReader) more(p []byte) (int, error) {
	b := r.body
	b.reading = true
	b.mu.Unlock()
	n, err := b.source.Read(p)
	b.mu.Lock()
	b.reading = false
	b.read.Broadcast()
	if err != nil {
		b.end = err
	}
	if err == io.EOF {
		for name := range b.trailer {
			b.trailer[name] = b.came[name]
		}
	}
	if b.current != r {
		b.kept = append(b.kept, p[:n]...)
		return 0, io.ErrClosedPipe
	}
	if !b.over && len(b.kept)+n <= keptBody {
		b.kept = append(b.kept, p[:n]...)
		r.at = len(b.kept)
	} else {
		b.kept, b.over, r.at = nil, true, 0
	}
	return n, err
}

// Close gives the reader nothing more; the source is its server's to close.
func (r *bodyReader) Close() error { return nil }
