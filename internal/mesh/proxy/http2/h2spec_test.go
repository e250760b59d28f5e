package http2

import (
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2spechttp2 "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// h2specCases is how many cases h2spec has, one of them for strict servers only.
const h2specCases = 146

func TestH2specFindsNothing(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write([]byte("an answer of more than a few bytes"))
	})
	host, port, _ := net.SplitHostPort(startRelay(t, app, &asked{}, Limits{}, nil).addr)
	number, _ := strconv.Atoi(port)
	quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	defer func(stdout *os.File) { os.Stdout = stdout }(os.Stdout)
	os.Stdout = quiet // h2spec prints as it goes
	passed := 0
	for _, group := range []*spec.TestGroup{generic.Spec(), h2spechttp2.Spec(), hpack.Spec()} {
		group.Test(&config.Config{Host: host, Port: number, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true})
		passed += group.PassedCount
		failures(t, group)
	}
	if passed != h2specCases {
		t.Errorf("%d of %d cases passed", passed, h2specCases)
	}
}

func failures(t *testing.T, group *spec.TestGroup) {
	for _, c := range append(group.Tests, group.StrictTests...) {
		if c.Result != nil && c.Result.Failed {
			t.Errorf("%s, %s: %v", group.Title(), c.Desc, c.Result.Error)
		}
	}
	for _, g := range group.Groups {
		failures(t, g)
	}
}
