package echo

import (
	"bufio"
	"io"
	"net"
	"strings"
)

// lineLimit bounds a line on the raw ports; a longer one ends the connection.
const lineLimit = 64 << 10

// lineHandler echoes lines, after a greeting when there is one.
func lineHandler(recorder *Recorder, port int, greeting string) func(net.Conn) {
	return func(conn net.Conn) {
		base := Delivery{Protocol: "tcp", Port: port, Peer: conn.RemoteAddr().String()}
		add := func(event, id string, bytes int) {
			d := base
			d.Event, d.ID, d.Bytes = event, id, bytes
			recorder.Add(d)
		}
		add(EventOpen, "", 0)
		defer add(EventClose, "", 0)
		if _, err := io.WriteString(conn, greeting); err != nil {
			return
		}
		echoLines(conn, bufio.NewReaderSize(conn, lineLimit), func(id string, bytes int) { add(EventLine, id, bytes) })
	}
}

// echoLines sends back each line and tells its first word and length, until the
// other end leaves. What stops without a newline has got its bytes back; an
// endless line ends it.
func echoLines(to io.Writer, from *bufio.Reader, tell func(id string, bytes int)) {
	for {
		line, err := from.ReadSlice('\n')
		if len(line) > 0 {
			id, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
			tell(id, len(line))
			if _, err := to.Write(line); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
