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
		reader := bufio.NewReaderSize(conn, lineLimit)
		for {
			line, err := reader.ReadSlice('\n')
			if len(line) > 0 {
				id, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
				add(EventLine, id, len(line))
				if _, err := conn.Write(line); err != nil {
					return
				}
			}
			// A client that stops without a newline has got its bytes back; one
			// whose line is endless is cut.
			if err != nil {
				return
			}
		}
	}
}
