package html

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/meshproof/meshproof/reports/result"
)

// browserTimeout bounds a whole visit; a browser on a loaded machine starts
// slowly.
const browserTimeout = 90 * time.Second

// lookInterval is between two looks at what the page does by itself.
const lookInterval = 20 * time.Millisecond

// visitor opens pages in a real browser, as a reader does: from a file and
// without a network.
type visitor struct {
	testing.TB
	ctx        context.Context
	file       string
	complaints []string
}

// visit writes the page of a run and begins to look at it. When the test ends,
// the browser must not have complained.
func visit(t testing.TB, run *result.Run) *visitor {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no browser on this machine: install Debian's chromium to run this test")
	}
	v := &visitor{TB: t, file: filepath.Join(t.TempDir(), "report.html")}
	file, err := os.Create(v.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(file, run); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), browserTimeout)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	v.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	v.do(chromedp.Navigate("about:blank"), chromedp.EmulateViewport(1280, 900)) // the tab exists from here on
	err = chromedp.Listen(v.ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			v.complaints = append(v.complaints, e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			v.complaints = append(v.complaints, "the console was written to: "+string(e.Type))
		case *log.EventEntryAdded: // a breach of the content security policy arrives here
			v.complaints = append(v.complaints, e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if len(v.complaints) > 0 {
			t.Errorf("the browser complains: %q", v.complaints)
		}
	})
	return v
}

func (v *visitor) do(actions ...chromedp.Action[chromedp.Void]) {
	v.Helper()
	if err := chromedp.Do(v.ctx, actions...); err != nil {
		v.Fatalf("drive the browser: %v", err)
	}
}

// open opens the page, with what follows its address.
func (v *visitor) open(hash string) {
	v.Helper()
	v.do(chromedp.Navigate("about:blank"), chromedp.Navigate("file://"+v.file+hash))
}

// ask evaluates an expression in the page.
func ask[T any](v *visitor, expression string) T {
	v.Helper()
	value, err := chromedp.Run(v.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		v.Fatalf("evaluate %s: %v", expression, err)
	}
	return value
}

// await waits until a condition holds in the page.
func (v *visitor) await(condition string) {
	v.Helper()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for !ask[bool](v, "!!("+condition+")") {
		select {
		case <-ticker.C:
		case <-v.ctx.Done():
			v.Fatalf("it never came to be that %s", condition)
		}
	}
}

// scheme chooses between light and dark.
func (v *visitor) scheme(name string) {
	v.Helper()
	v.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
		return err
	}))
}
