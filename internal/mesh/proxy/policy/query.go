package policy

import "bytes"

// parameter finds the first value of a query parameter. It has none when that value
// is malformed, or when a semicolon is in its pair: some applications skip such a
// pair, others read it, and a later one of the name counts for some only. The value
// lies in the query, or at the end of buf, which is returned grown.
func parameter(query []byte, name string, buf []byte) (value, grown []byte, ok bool) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		whole := bytes.IndexByte(pair, ';') < 0
		for len(pair) > 0 {
			var part []byte
			part, pair, _ = bytes.Cut(pair, []byte{';'})
			key, escaped, _ := bytes.Cut(part, []byte{'='})
			if key, buf, ok = unescaped(key, buf); !ok || string(key) != name {
				continue
			}
			if !whole {
				return nil, buf, false
			}
			return unescaped(escaped, buf)
		}
	}
	return nil, buf, false
}

// unescaped decodes escapes and plus signs to the end of buf; ok is false for a
// broken escape.
func unescaped(raw, buf []byte) (text, grown []byte, ok bool) {
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
		return raw, buf, true
	}
	start := len(buf)
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '+':
			buf = append(buf, ' ')
		case '%':
			if i+2 >= len(raw) {
				return nil, buf[:start], false
			}
			high, okHigh := unhex(raw[i+1])
			low, okLow := unhex(raw[i+2])
			if !okHigh || !okLow {
				return nil, buf[:start], false
			}
			buf = append(buf, high<<4|low)
			i += 2
		default:
			buf = append(buf, c)
		}
	}
	return buf[start:], buf, true
}
