package cli

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// recordedRun is the folder of a run in which a client called a pod under deny,
// and saw these one after the other.
func recordedRun(t *testing.T, seen ...history.Question) string {
	t.Helper()
	folder := t.TempDir()
	settings := oracle.DefaultSettings()
	settings.DefaultPolicy = api.Deny
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app", Labels: map[string]string{api.ControlPlaneLabel: "linkerd"}}}
	world, err := history.NewWorld(api.DialectDocumented, oracle.World{Settings: settings}, []*corev1.Pod{pod})
	if err != nil {
		t.Fatal(err)
	}
	writer, err := history.Create(filepath.Join(folder, history.FileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range seen {
		q.Claim, q.Form, q.Pod, q.Port = "s.1.1", history.Call, "ns/app", 8080
		q.Client = oracle.Client{Way: oracle.Plain, Address: netip.MustParseAddr("10.0.0.8")}
		q.Request = oracle.Request{Protocol: oracle.HTTP1, Path: "/"}
		if err := writer.Add(world, &q); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestARecordedRunIsJudgedAgain(t *testing.T) {
	denied := history.Question{Observed: history.Observed{Kind: clients.Forbidden, HTTPStatus: 403}}
	leaked := history.Question{Observed: history.Observed{Kind: clients.Allowed, HTTPStatus: 200}}
	early := leaked
	early.Early = true
	for name, row := range map[string]struct {
		seen []history.Question
		code int
		out  string
	}{
		"as the rules say":             {[]history.Question{denied}, ExitOK, "1 questions in 1 worlds judged, 0 differ"},
		"a leak":                       {[]history.Question{denied, leaked}, ExitFinding, "s.1.1: by the rules it is http-403, observed allowed\n2 questions in 1 worlds judged, 1 differ"},
		"a claim that came true":       {[]history.Question{early, denied}, ExitOK, "0 differ"},
		"a claim that never came true": {[]history.Question{early}, ExitFinding, "1 differ"},
		"a run in which nobody called": {nil, ExitInconclusive, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := runLine(t, "judge", recordedRun(t, row.seen...))
			if code != row.code || !strings.Contains(out, row.out) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, row.code, row.out, out, errOut)
			}
		})
	}
	if code, _, errOut := runLine(t, "judge", t.TempDir()); code != ExitUsage || !strings.Contains(errOut, history.FileName) {
		t.Errorf("a folder without a run: exit code %d: %s", code, errOut)
	}
}
