package http1

import "bytes"

// framing follows a body through the buffers that it comes in and finds its
// end. What is passed on lies in the same buffer, at or before where it came in.
//
// Invariants: next never takes a byte beyond the body's end; what it gives out
// is a body of the same framing with the same data, without chunk extensions and
// without trailers that may not pass; after an error nothing of the body is used.
type framing struct {
	body Body
	// left is what remains of the length, or of the chunk.
	left  int64
	state chunkState
	// payload: the data alone is given out, for a peer that knows no chunks.
	payload bool
	// answer: trailers of an answer, not of a request.
	answer bool
	// keeps: trailers that may pass are put into kept.
	keeps bool
	kept  []Field
	done  bool

	limits     *Limits
	extensions int
	trailers   int
	fields     int
	// grpcStatus is the trailer of that name, -1 if there is none.
	grpcStatus int
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	trailerLine
)

func (f *framing) begin(b Body, length int64, l *Limits) {
	*f = framing{body: b, left: length, limits: l, grpcStatus: -1}
	f.done = b == NoBody || b == Length && length == 0
}

// next takes bytes of the body off b. b[:out] is to be passed on and b[used:] is
// left: what follows the body, once done, and otherwise a line that is not whole,
// to be handed in again with more behind it. Less than its limit, it fits in a buffer.
func (f *framing) next(b []byte) (out, used int, err *refusal) {
	switch f.body {
	case NoBody:
		return 0, 0, nil
	case ToClose:
		return len(b), len(b), nil
	case Length:
		n := len(b)
		if int64(n) > f.left {
			n = int(f.left)
		}
		f.left -= int64(n)
		f.done = f.left == 0
		return n, n, nil
	}
	for !f.done && used < len(b) {
		if f.state == chunkData {
			n := len(b) - used
			if int64(n) > f.left {
				n = int(f.left)
			}
			if out != used {
				copy(b[out:], b[used:used+n])
			}
			out, used = out+n, used+n
			if f.left -= int64(n); f.left == 0 {
				f.state = chunkEnd
			}
			continue
		}
		line, err := f.line(b[used:])
		if line == 0 || err != nil {
			return out, used, err
		}
		keep, err := f.take(b[used : used+line])
		if err != nil {
			return out, used, err
		}
		if !f.payload && keep > 0 {
			if out != used {
				copy(b[out:], b[used:used+keep])
			}
			out += keep
			if keep != line { // an extension was cut off
				b[out], b[out+1] = '\r', '\n'
				out += 2
			}
		}
		used += line
	}
	return out, used, nil
}

// line is the length of the line at b's start with its CR LF; 0 when it is not whole.
func (f *framing) line(b []byte) (int, *refusal) {
	limit := f.limits.Trailer
	if f.state == chunkEnd {
		limit = len("\r\n")
	}
	window := b[:min(len(b), limit)]
	i := bytes.IndexByte(window, '\n')
	switch {
	case i < 0 && f.state == chunkEnd && (len(window) == limit || window[0] != '\r'):
		return 0, errChunkEnd
	case i < 0 && len(window) == limit:
		return 0, errTrailerLimit
	case i < 0:
		return 0, nil
	case i == 0 || b[i-1] != '\r':
		return 0, errBareLF
	}
	return i + 1, nil
}

// take reads a whole line and returns how much of it is passed on: all, none or
// what comes before its extension.
func (f *framing) take(line []byte) (keep int, err *refusal) {
	text := line[:len(line)-2]
	switch f.state {
	case chunkEnd: // line has seen that nothing else is in it
		f.state = chunkSize
		return len(line), nil
	case chunkSize:
		digits, err := f.size(text)
		if err != nil {
			return 0, err
		}
		f.state = chunkData
		if f.left == 0 {
			f.state = trailerLine
		}
		if digits < len(text) {
			return digits, nil
		}
		return len(line), nil
	}
	if len(text) == 0 {
		f.done = true
		return len(line), nil
	}
	if f.trailers += len(line); f.trailers > f.limits.Trailer {
		return 0, errTrailerLimit
	}
	if f.fields++; f.fields > f.limits.Fields {
		return 0, errFieldsLimit
	}
	field, err := parseField(text)
	if err != nil {
		return 0, err
	}
	if !f.trailerPasses(field) {
		return 0, nil
	}
	if f.keeps {
		f.kept = append(f.kept, Field{bytes.Clone(field.Name), bytes.Clone(field.Value)})
	}
	return len(line), nil
}

// size reads a chunk's size and checks what follows it.
func (f *framing) size(text []byte) (digits int, err *refusal) {
	f.left = 0
	for digits < len(text) {
		d, ok := hexDigit(text[digits])
		if !ok {
			break
		}
		if digits++; digits > longestSize {
			return 0, errChunkSize
		}
		f.left = f.left<<4 | int64(d)
	}
	if digits == 0 || f.left < 0 {
		return 0, errChunkSize
	}
	extension := text[digits:]
	if len(extension) == 0 {
		return digits, nil
	}
	for len(extension) > 0 && (extension[0] == ' ' || extension[0] == '\t') {
		extension = extension[1:]
	}
	if len(extension) == 0 || extension[0] != ';' {
		return 0, errChunkSize
	}
	quoted, escaped := false, false
	for _, c := range extension {
		switch {
		case class[c]&valueByte == 0:
			return 0, errChunkSize
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		}
	}
	if quoted { // somebody might look for its end in the next line
		return 0, errChunkSize
	}
	if f.extensions += len(text) - digits; f.extensions > f.limits.Extension {
		return 0, errExtensionLimit
	}
	return digits, nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// trailerPasses: nothing that frames a message, names who it is for or who sent
// it, or that an application decides by, comes as a trailer.
func (f *framing) trailerPasses(field Field) bool {
	switch k, _ := kindOf(field.Name); {
	case k == grpcStatus:
		f.grpcStatus = number(field.Value)
		return true
	case f.answer && k == clientID:
		return true
	default:
		return k == plain
	}
}

// number reads a small decimal number; -1 if it is none.
func number(v []byte) int {
	if n, ok := parseLength(v); ok && n < 1<<16 {
		return int(n)
	}
	return -1
}
