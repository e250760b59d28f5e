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

// TestH2spec holds the proxy against RFC 7540 and 7541 with the tests of h2spec,
// through to an application; its last line says how many have passed.
func TestH2spec(t *testing.T) {
	w := newWorld(&T{T: t, note: &note{}}, proxytest.Everybody())
	w.app.handle = func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, strings.Repeat("hello ", 1000)) }
	c := &config.Config{
		Host: "127.0.0.1", Port: int(w.proxy.Pairs[0].Port()), Path: "/", Timeout: patience / 2, MaxHeaderLen: 4000, Strict: true,
	}
	passed, failed := 0, 0
	groups := []*spec.TestGroup{generic.Spec(), specs.Spec(), hpack.Spec()}
	for _, group := range groups {
		group.Test(c)
		passed += group.PassedCount
		failed += group.FailedCount + group.SkippedCount
	}
	if failed > 0 {
		reporter.FailedTests(groups)
		t.Errorf("%d of %d have not passed", failed, passed+failed)
	}
	w.alive()
	fmt.Printf("%d passed\n", passed)
}
