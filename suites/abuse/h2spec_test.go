package abuse

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	specs "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/reporter"
	"github.com/summerwind/h2spec/spec"

	"github.com/meshproof/meshproof/internal/proxytest"
)

// wantPassed is all of h2spec's tests but the one that only its strict mode runs.
const wantPassed = 145

// TestH2spec holds the proxy against RFC 7540 and 7541 with the tests of h2spec,
// through to an application; its last line says how many have passed.
func TestH2spec(t *testing.T) {
	w := newWorld(&T{T: t, note: &note{}}, proxytest.Server(proxytest.HTTP2(), proxytest.Anyone("everybody")))
	w.app.handle = func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, strings.Repeat("hello ", 1000)) }
	c := &config.Config{
		Host: "127.0.0.1", Port: int(w.proxy.Pairs[0].Port()), Path: "/", Timeout: patience / 2, MaxHeaderLen: 4000,
	}
	passed, failed := 0, 0
	groups := []*spec.TestGroup{generic.Spec(), specs.Spec(), hpack.Spec()}
	for _, group := range groups {
		group.Test(c)
		passed += group.PassedCount
		failed += group.FailedCount
	}
	if failed > 0 {
		reporter.FailedTests(groups)
		t.Errorf("%d of %d have not passed", failed, passed+failed)
	}
	if s := w.h2().get("/"); s.status() != http.StatusOK {
		t.Errorf("afterwards: status %d", s.status())
	}
	if passed < wantPassed {
		t.Errorf("%d have passed, want %d", passed, wantPassed)
	}
	fmt.Printf("%d passed\n", passed)
}
