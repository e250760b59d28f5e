package proxytest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/proxytest"
)

// build makes the program once for this test.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), proxytest.Program)
	if out, err := exec.Command("go", "build", "-o", program, "./standalone").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

func TestAProxyOfItsOwnServesWhatThePlaneSays(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }))
	defer app.Close()
	addr := netip.MustParseAddrPort(strings.TrimPrefix(app.URL, "http://"))
	plane, err := proxytest.NewPlane()
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Close()
	proxy, err := plane.Start(t.Context(), proxytest.Options{Program: build(t), Apps: []netip.AddrPort{addr}, Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: proxytest.Dialer(proxytest.Neighbour).DialContext}}
	defer client.CloseIdleConnections()
	for status, server := range map[int]string{http.StatusOK: "127.0.0.0/8", http.StatusForbidden: "10.0.0.0/8"} {
		if err := proxy.Apply(t.Context(), addr.Port(), proxytest.Server(proxytest.HTTP1(), proxytest.Anyone("some", server))); err != nil {
			t.Fatal(err)
		}
		res, err := client.Get("http://" + proxy.Pairs[0].String() + "/x")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != status || status == http.StatusOK != (string(body) == "/x") {
			t.Errorf("%s: %s %q, want %d", server, res.Status, body, status)
		}
	}
	if list, err := proxy.Decisions(t.Context(), 0); err != nil || len(list.Decisions) < 2 {
		t.Errorf("%v, %v", list, err)
	}
	if err := proxy.Stop(); err != nil {
		t.Error(err)
	}
}
