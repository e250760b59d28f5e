package html

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/meshproof/meshproof/reports/result"
)

// browserTimeout bounds a whole visit; a browser on a loaded machine starts
// slowly.
const browserTimeout = 90 * time.Second

// TestAReaderCanFilterThePageFromDisk opens the page in a real browser, as a
// reader does, from a file and without a network.
func TestAReaderCanFilterThePageFromDisk(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no browser on this machine: install Debian's chromium to run this test")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	scenario := func(name string, outcome result.Outcome) result.Scenario {
		return result.Scenario{Name: name, Outcome: outcome, Steps: []result.Step{{Name: "step", Outcome: outcome,
			Claims: []result.Claim{{Name: "claim of " + name, Outcome: outcome, Client: "web", Target: "voting"}}}}}
	}
	run := &result.Run{Outcome: result.Failed, Scenarios: []result.Scenario{scenario("walk-through", result.Passed), scenario("probes", result.Failed)}}
	if err := Write(file, run); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), browserTimeout)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	var complaints []string
	const visible = `[...document.querySelectorAll("section.scenario")].filter(s => s.offsetParent !== null).map(s => s.querySelector("h2").textContent.includes("probes") ? "probes" : "walk-through")`
	shown := func() []string {
		t.Helper()
		names, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](visible))
		if err != nil {
			t.Fatalf("ask what is visible: %v", err)
		}
		return names
	}
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("drive the browser: %v", err)
		}
	}
	do(chromedp.Navigate("about:blank")) // the tab exists from here on
	err = chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *log.EventEntryAdded: // a breach of the content security policy arrives here
			complaints = append(complaints, e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	do(chromedp.Navigate("file://" + file.Name()))
	border, err := chromedp.Run(ctx, chromedp.Evaluate[string](`getComputedStyle(document.querySelector("header")).borderLeftStyle`))
	if err != nil {
		t.Fatal(err)
	}
	all := shown()
	do(chromedp.Click("#attention"))
	attention := shown()
	do(chromedp.Click("#attention"), chromedp.SendKeys("#filter", "walk"))
	filtered := shown()
	if border != "solid" {
		t.Errorf("the page's style did not take effect: border style %q", border)
	}
	for _, c := range []struct {
		when      string
		got, want []string
	}{
		{"at first", all, []string{"walk-through", "probes"}},
		{"filtered by name", filtered, []string{"walk-through"}},
		{"only what needs attention", attention, []string{"probes"}},
	} {
		if len(c.got) != len(c.want) || c.got[0] != c.want[0] {
			t.Errorf("%s the page shows %q, want %q", c.when, c.got, c.want)
		}
	}
	if len(complaints) > 0 {
		t.Errorf("the browser complains: %q", complaints)
	}
}
