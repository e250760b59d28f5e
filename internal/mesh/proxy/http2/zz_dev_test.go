package http2

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

func TestDevSpec(t *testing.T) {
	l := listen(t)
	srv := &http2.Server{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go srv.ServeConn(c, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Write([]byte("hello, this is an answer of some bytes"))
			})})
		}
	}()
	r := startRelay(t, l.Addr().String(), &asked{}, Limits{}, nil)
	_, port, _ := net.SplitHostPort(r.addr)
	args := append([]string{port}, strings.Fields(os.Getenv("SECTIONS"))...)
	out, err := exec.Command("/tmp/h2/h2spec", args...).CombinedOutput()
	os.WriteFile("/tmp/h2/out.txt", out, 0o644)
	t.Log(err)
}
