package inbound

import (
	"net/http"
	"slices"
	"testing"
)

func TestAuthoritiesHaveOneReading(t *testing.T) {
	for authority, want := range map[string]bool{
		"app": true, "App.Example.": true, "app:80": true, "app:": true, "127.0.0.1:80": true, "[::1]": true, "[::1]:80": true, "[::ffff:1.2.3.4]:80": true, "my_app": true,
		"app:evil": false, "app:80:90": false, "evil@app": false, "app/evil": false, "app, evil": false, "app evil": false, "app?x": false, "app#x": false,
		":80": false, "[::1": false, "[]": false, "[::1]x": false, "::1": false, "app\x00": false, "app\\evil": false, "[::1%25eth0]": false, "app:+80": false,
	} {
		if got := authorityForm(authority, true); got != want {
			t.Errorf("%q: %v, want %v", authority, got, want)
		}
	}
	if authorityForm("", false) || !authorityForm("", true) {
		t.Error("only HTTP/1 may leave its authority out")
	}
}

func TestMethodsAreTokens(t *testing.T) {
	for _, method := range []string{"GET", "get", "M-SEARCH", "BREW"} {
		if !methodForm(method) {
			t.Errorf("%q is refused", method)
		}
	}
	for _, method := range []string{"", "GET /admin", "GET\r\n", "GET\x00", "G:T", "\x80"} {
		if methodForm(method) {
			t.Errorf("%q is taken", method)
		}
	}
}

// Over HTTP/2 the library takes such methods and authorities; none may go on.
func TestHeadsWithTwoReadingsAreRefused(t *testing.T) {
	w := newWorld(t, application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the application saw %s of %s", r.Method, r.Host)
	})), nil)
	w.apply(server(detect(), anyone(t, "all")))
	for _, fields := range [][]string{
		{":method", "GET /admin", ":scheme", "http", ":authority", "app", ":path", "/"},
		{":method", "GET", ":scheme", "http", ":authority", "app:evil", ":path", "/"},
		{":method", "GET", ":scheme", "http", ":path", "/"},
	} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := newFrameClient(t, conn)
		if answer, _ := c.answer(c.head(fields)); !slices.Contains(answer, ":status: 400") {
			t.Errorf("%q: %q, want 400", fields, answer)
		}
	}
}
