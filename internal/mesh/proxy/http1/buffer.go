package http1

import "sync"

// bufferSize holds most heads, and what is read of a body at once.
const bufferSize = 16 << 10

// buffer holds bytes that were read and not yet used: data[r:w].
type buffer struct {
	data []byte
	r, w int
}

var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, bufferSize)} }}

func getBuffer() *buffer {
	b := buffers.Get().(*buffer)
	b.r, b.w = 0, 0
	return b
}

// put gives the buffer back; one that has grown is left to the collector.
func (b *buffer) put() {
	if len(b.data) == bufferSize {
		buffers.Put(b)
	}
}

func (b *buffer) bytes() []byte { return b.data[b.r:b.w] }

// room makes room for more bytes behind those that are there. It moves them, so
// no slice of them may be in use.
func (b *buffer) room() []byte {
	if b.r > 0 {
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
	}
	return b.data[b.w:]
}

// grow makes the buffer at least so large.
func (b *buffer) grow(size int) {
	if size > len(b.data) {
		data := make([]byte, size)
		b.w = copy(data, b.data[b.r:b.w])
		b.data, b.r = data, 0
	}
}

// exchange is what a request needs while it is under way.
type exchange struct {
	request  request
	response response
	action   Action
	up, down framing
	// out is where heads are written.
	out []byte
}

var exchanges = sync.Pool{New: func() any { return &exchange{out: make([]byte, 0, bufferSize)} }}

func getExchange() *exchange { return exchanges.Get().(*exchange) }

func (x *exchange) put() {
	if cap(x.out) > 2*bufferSize || cap(x.request.fields) > DefaultFields || cap(x.response.fields) > DefaultFields {
		return
	}
	// Nothing of a request outlives it: neither its bytes nor the caller's token.
	x.action.reset()
	x.request.head = Head{}
	exchanges.Put(x)
}

func (a *Action) reset() {
	clear(a.Set)
	clear(a.Append)
	clear(a.Fields)
	clear(a.Remove)
	*a = Action{Remove: a.Remove[:0], Set: a.Set[:0], Append: a.Append[:0], Fields: a.Fields[:0]}
}
