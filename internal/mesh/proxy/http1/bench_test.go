package http1

import (
	"net"
)

const echoAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nX-Served-By: app\r\n\r\nhello"

// echoApp answers whatever comes in one piece with the same answer, and
// allocates nothing.
func echoApp(conn net.Conn) {
	b := make([]byte, 4096)
	answer := []byte(echoAnswer)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}
