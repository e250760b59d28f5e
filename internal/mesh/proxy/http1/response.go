package http1

import "bytes"

// response is an answer's head with what the relay makes of it.
type response struct {
	message
	status int
	// phrase is the status code and reason phrase as they are sent on.
	phrase []byte
	// switched: what follows is a tunnel.
	switched bool
}

// parse reads a head that ends with its empty line, the answer to r.
func (a *response) parse(b []byte, r *request, l *Limits) *refusal {
	a.message.reset()
	*a = response{message: a.message}
	line, b := nextLine(b)
	if err := a.statusLine(line); err != nil {
		return err
	}
	if err := a.readFields(b, l, Application); err != nil {
		return err
	}
	if err := a.frame(); err != nil {
		return err
	}
	if err := a.readConnection(); err != nil {
		return err
	}
	if a.minor == 0 && !a.keepAlive {
		a.close = true
	}
	lengthKnown := false
	for i, k := range a.kinds {
		switch k {
		case contentLength:
			lengthKnown = true
		case clientID:
			a.kinds[i] = plain // it is only clients that may not say it
		}
	}
	switch {
	case a.status == 101:
		if !r.upgrading || !a.upgrades || !switchable(a.upgrade) {
			return errSwitched
		}
		a.switched = true
	case r.connect && a.status/100 == 2:
		a.switched = true
	case a.body == NoBody && !lengthKnown && !a.bodiless(r):
		a.body, a.close = ToClose, true
	}
	if a.switched || a.status/100 == 1 || a.status == 204 {
		// Such an answer has neither, whatever it says. What it says it has may come yet,
		// and would be the next answer.
		if !a.switched && a.body != NoBody {
			if a.status != 204 {
				return errEarlyBody
			}
			a.close = true
		}
		a.dropKind(contentLength)
	}
	if a.bodiless(r) {
		a.body = NoBody
	}
	a.strip()
	return nil
}

// bodiless answers end with their head (RFC 9112, section 6.3).
func (a *response) bodiless(r *request) bool {
	return r.headOnly || a.status/100 == 1 || a.status == 204 || a.status == 304 || a.switched
}

func (a *response) dropKind(k kind) {
	for i := range a.kinds {
		if a.kinds[i] == k {
			a.kinds[i] = named
		}
	}
}

// statusLine reads HTTP/1.x SP code [SP reason].
func (a *response) statusLine(line []byte) *refusal {
	const version, code = len("HTTP/1.x "), len("200")
	if len(line) < version+code || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[version-1] != ' ' {
		return errStatusLine
	}
	switch line[version-2] {
	case '0':
	case '1':
		a.minor = 1
	default:
		return errVersion
	}
	a.phrase = line[version:]
	if !all(a.phrase[:code], digitByte) || len(a.phrase) > code && a.phrase[code] != ' ' {
		return errStatusLine
	}
	for _, c := range a.phrase {
		if class[c]&valueByte == 0 {
			return errStatusLine
		}
	}
	a.status = int(a.phrase[0]-'0')*100 + int(a.phrase[1]-'0')*10 + int(a.phrase[2]-'0')
	if a.status < 100 || a.status > 599 {
		return errStatusLine
	}
	return nil
}
