package html

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

func TestAReaderCanFilterThePageFromDisk(t *testing.T) {
	scenario := func(name string, outcome result.Outcome) result.Scenario {
		return result.Scenario{Name: name, Outcome: outcome, Steps: []result.Step{{Name: "step", Outcome: outcome,
			Claims: []result.Claim{{Name: "claim of " + name, Outcome: outcome, Client: "web", Target: "voting"}}}}}
	}
	v := visit(t, &result.Run{Outcome: result.Failed, Scenarios: []result.Scenario{scenario("walk-through", result.Passed), scenario("probes", result.Failed)}})
	v.open("")
	shown := func() string {
		t.Helper()
		return strings.Join(ask[[]string](v, `[...document.querySelectorAll("section.scenario")].filter(s => s.offsetParent !== null).map(s => s.id)`), " ")
	}
	all := shown()
	v.do(chromedp.Click("#attention"))
	attention := shown()
	v.do(chromedp.Click("#attention"), chromedp.SendKeys("#filter", "walk"))
	filtered := shown()
	v.do(chromedp.Evaluate[chromedp.Void](`document.getElementById("filter").value = ""`), chromedp.Click(`[data-chip="failed"]`))
	chipped := shown()
	if border := ask[string](v, `getComputedStyle(document.querySelector("header")).borderLeftStyle`); border != "solid" {
		t.Errorf("the page's style did not take effect: border style %q", border)
	}
	for _, c := range []struct{ when, got, want string }{
		{"at first", all, "walk-through probes"},
		{"only what needs attention", attention, "probes"},
		{"filtered by name", filtered, "walk-through"},
		{"without what failed", chipped, "walk-through"},
	} {
		if c.got != c.want {
			t.Errorf("%s the page shows %q, want %q", c.when, c.got, c.want)
		}
	}
}

// drawn says that the first time line is there, and drawn.
const drawn = `document.querySelector(".timeline canvas") && document.querySelector(".timeline").dataset.marks`

const card = `document.querySelector(".card").textContent`

func TestAReaderFindsTheRequestBehindAFinding(t *testing.T) {
	run := madeRun(2400)
	line := run.Evidence.Timelines[0]
	v := visit(t, run)
	v.open("")
	v.await(drawn)
	v.do(chromedp.Click(`button[aria-label="to the next finding"]`))
	v.await(`!document.querySelector(".card").hidden`)
	text := ask[string](v, card)
	id := line.Requests.ID[line.Findings[0].Request]
	for _, want := range []string{"leak", "after alice was revoked", id, "shop/app-6d4f7", "ServerAuthorization/alice deleted", "no authorization grants it", "delivered once", "Server/app-http"} {
		if !strings.Contains(text, want) {
			t.Errorf("the card lacks %q: %s", want, text)
		}
	}
	if hash := ask[string](v, "location.hash"); hash != "#revoke-alice/"+id {
		t.Errorf("the address ends in %q", hash)
	}

	// The same by its address alone.
	v.open("#revoke-alice/" + id)
	v.await(`document.querySelector(".card") && !document.querySelector(".card").hidden`)
	if again := ask[string](v, card); again != text {
		t.Errorf("by its address: %s", again)
	}
}

func TestAFindingLeadsToItsRequest(t *testing.T) {
	v := visit(t, madeRun(2400))
	v.open("")
	v.await(drawn)
	v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".finding details").open = true`), chromedp.Click(`.finding details a`))
	v.await(`!document.querySelector(".card").hidden && ` + card + `.includes("leak")`)
}

// What others have named is text, wherever it is shown.
func TestNothingThatIsShownIsMarkup(t *testing.T) {
	const evil = `</script><img src=x onerror="console.error(1)">`
	run := madeRun(200)
	line := &run.Evidence.Timelines[0]
	line.Logs[0].Pod, line.Logs[0].File = evil, evil
	line.Streams[0].Name, line.Steps[0].Name, line.Writes[0].Object, line.Proxies[0].Pod, line.Faults[0].Name = evil, evil, evil, evil, evil
	for i := range line.Texts {
		line.Texts[i] += evil
	}
	for i := range line.Findings {
		line.Findings[i].Text = evil
	}
	for i := range run.Evidence.Changes {
		run.Evidence.Changes[i].Kind = evil
	}
	run.WallTime[1].On, run.Scenarios[1].Name = evil, evil
	run.Evidence.Coverage.Rules[0].Text, run.Evidence.Coverage.Columns[0].Class = evil, evil
	v := visit(t, run)
	v.open("")
	v.await(drawn)
	v.do(chromedp.Click(`button[aria-label="to the next finding"]`))
	v.await(card + `.includes("onerror")`)
	if n := ask[int](v, `document.querySelectorAll("img").length`); n != 0 {
		t.Errorf("%d pictures came to be", n)
	}
}

func TestATimeLineIsWalkedWithTheKeyboard(t *testing.T) {
	v := visit(t, madeRun(2400))
	v.open("")
	v.await(drawn)
	key := func(keys string) {
		t.Helper()
		v.do(chromedp.KeyEvent(keys))
	}
	view := func() [2]float64 {
		t.Helper()
		return ask[[2]float64](v, `[Number(document.querySelector(".timeline").dataset.from), Number(document.querySelector(".timeline").dataset.to)]`)
	}
	v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".timeline canvas").focus()`))
	key(kb.ArrowRight)
	v.await(`!document.querySelector(".card").hidden`)
	first := ask[string](v, card)
	key(kb.ArrowRight)
	second := ask[string](v, card)
	key(kb.ArrowLeft)
	if back := ask[string](v, card); back != first || second == first {
		t.Errorf("to the right %s, and back %s, from %s", second, back, first)
	}
	key(kb.ArrowDown)
	if other := ask[string](v, card); other == first || !strings.Contains(other, "alice") || strings.Contains(first, "q8k4t") == strings.Contains(other, "q8k4t") {
		t.Errorf("one lane further: %s, from %s", other, first)
	}
	key("0")
	whole := view()
	key("+")
	if near := view(); near[1]-near[0] >= whole[1]-whole[0] {
		t.Errorf("+ goes from %v to %v", whole, near)
	}
	key("0")
	key("n")
	if change := view(); change[0] < 0.7e6 || change[1] > 1.5e6 {
		t.Errorf("the first change is at 1 s, the view is %v", change)
	}
	key(kb.Escape)
	v.await(`document.querySelector(".card").hidden`)
	key("]")
	v.await(`!document.querySelector(".card").hidden && ` + card + `.includes("leak")`)
}

func TestALaneIsClickedForItsRequests(t *testing.T) {
	v := visit(t, madeRun(2400))
	v.open("")
	v.await(drawn)
	clickStranger(v)
	if text := ask[string](v, card); !strings.Contains(text, "stranger: denied") || !strings.Contains(text, "x2x9p") {
		t.Errorf("the card says %s", text)
	}
}

// lines are the log lines that the card shows, as a reader sees them.
const lines = `[...document.querySelectorAll(".card .logs tbody tr")].filter(r => r.checkVisibility()).map(r => (r.className + " " + [...r.cells].map(c => c.textContent).join(" ")).trim())`

// clickStranger clicks on a request of the third lane: the stranger's at the first
// replica, where she is always denied.
func clickStranger(v *visitor) {
	v.Helper()
	v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".timeline").scrollIntoView()`))
	at := ask[[]float64](v, `(() => { const b = document.querySelector(".timeline canvas").getBoundingClientRect(); return [b.left, b.top, b.width] })()`)
	v.do(chromedp.MouseClickXY(at[0]+190+(at[2]-202)/2, at[1]+78+2*34+24))
	v.await(`!document.querySelector(".card").hidden`)
}

func TestARequestThatIsClickedShowsTheLogLinesAroundIt(t *testing.T) {
	v := visit(t, madeRun(2400))
	v.open("")
	v.await(drawn)
	clickStranger(v)
	got := ask[[]string](v, lines)
	during := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return !strings.HasPrefix(l, "during ") })
	// Five before it, its own, and five after it; and three lines of the controller.
	if len(got) != 14 || len(during) != 1 || got[5] != during[0] || !strings.Contains(during[0], "Request denied") || !strings.HasPrefix(during[0], "during +") ||
		!strings.Contains(during[0], " 12:00:0") || !strings.HasPrefix(got[4], "−") || !strings.HasPrefix(got[6], "+") || !strings.Contains(got[13], "was seen") {
		t.Errorf("the lines are %q", got)
	}
	text := ask[string](v, card)
	for _, want := range []string{"proxy shop/app-6d4f7-x2x9p", "bundle/shop/app-6d4f7-x2x9p/linkerd-proxy.log", "10.244.0.9", "policy controller linkerd/linkerd-destination-7c9f4"} {
		if !strings.Contains(text, want) {
			t.Errorf("the card lacks %q: %s", want, text)
		}
	}
	if strings.Contains(text, "10.244.0.10") {
		t.Errorf("the card has lines of the proxy that did not answer: %s", text)
	}

	// They are folded by the keyboard, and stay so from request to request.
	v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".card .logs summary").focus()`), chromedp.KeyEvent(kb.Enter))
	v.await(lines + ".length === 0")
	v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".timeline canvas").focus()`), chromedp.KeyEvent(kb.ArrowRight))
	if still := ask[[]string](v, lines); len(still) != 0 {
		t.Errorf("of the next request are shown %q", still)
	}

	// At the beginning, it is said what is not in the page.
	v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".card .logs").open = true`))
	v.open("#revoke-alice/r1")
	v.await(`document.querySelector(".card") && !document.querySelector(".card").hidden`)
	if first := strings.Join(ask[[]string](v, lines), "\n"); !strings.Contains(first, "3 lines are left out here") || !strings.Contains(first, "begins after this request") {
		t.Errorf("of the first request are shown %s", first)
	}
}

func TestARequestWithoutLogLinesSaysWhyThereAreNone(t *testing.T) {
	cases := []struct {
		name   string
		change func(*timeline.Timeline)
		want   string
	}{
		{"the scenario has passed", func(l *timeline.Timeline) { l.Logs, l.NoLogs = nil, "No log lines were kept: it has passed." }, "No log lines were kept: it has passed."},
		{"nothing was kept", func(l *timeline.Timeline) { l.Logs = nil }, "No log lines of this scenario were kept."},
		{"the pod was gone", func(l *timeline.Timeline) { l.Logs = l.Logs[:1] }, "No log of shop/app-6d4f7-x2x9p was kept."},
		{"it wrote nothing", func(l *timeline.Timeline) { l.Logs[1].At, l.Logs[1].Text = nil, nil }, "It has no line from the time of this scenario."},
		{"only the controller is gone", func(l *timeline.Timeline) { l.Logs = l.Logs[1:] }, "No log of the policy controller was kept."},
		{"who answered is not known", func(l *timeline.Timeline) {
			for i := range l.Requests.Proxy {
				l.Requests.Proxy[i] = -1
			}
		}, "which one answered is not known"},
	}
	run := &result.Run{Outcome: result.Failed, Evidence: &timeline.Evidence{}}
	for _, c := range cases {
		line := madeLine(c.name, 200)
		for i := range line.Requests.Proxy {
			line.Requests.Proxy[i] = 0
		}
		c.change(&line)
		run.Evidence.Timelines = append(run.Evidence.Timelines, line)
		run.Scenarios = append(run.Scenarios, result.Scenario{Name: c.name, Outcome: result.Failed})
	}
	v := visit(t, run)
	for _, c := range cases {
		logs := fmt.Sprintf(`document.querySelector("#%s .card .logs")`, strings.ReplaceAll(c.name, " ", "-"))
		v.open("#" + strings.ReplaceAll(c.name, " ", "-") + "/r100")
		v.await(logs)
		if text := ask[string](v, logs+".innerText"); !strings.Contains(text, c.want) {
			t.Errorf("where %s the card says %q, want %q", c.name, text, c.want)
		}
	}
}

func TestThePageIsDarkWhereTheReaderWantsIt(t *testing.T) {
	const pixel = `(() => { const c = document.querySelector(".timeline canvas"); const one = new OffscreenCanvas(1, 1).getContext("2d"); one.drawImage(c, 3, c.height - 3, 1, 1, 0, 0, 1, 1); const [r, g, b] = one.getImageData(0, 0, 1, 1).data; return r + g + b })()`
	const back = `getComputedStyle(document.body).backgroundColor`
	v := visit(t, madeRun(200))
	v.scheme("light")
	v.open("")
	v.await(drawn)
	light, page := ask[int](v, pixel), ask[string](v, back)
	v.scheme("dark")
	v.await(back + " !== " + "'" + page + "'")
	v.await(pixel + " < 150")
	if light < 700 {
		t.Errorf("in the light the canvas has brightness %d", light)
	}
}

// TestContrastIsEnoughForEveryText asks for what WCAG calls AA: 4.5 to 1 for
// text, 3 to 1 for what is drawn.
func TestContrastIsEnoughForEveryText(t *testing.T) {
	v := visit(t, madeRun(200))
	v.open("")
	v.await(drawn)
	const ratio = `((name, under) => {
		const rgb = n => { const d = document.createElement("canvas").getContext("2d"); d.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--" + n).trim(); d.fillRect(0, 0, 1, 1); return d.getImageData(0, 0, 1, 1).data; };
		const light = n => { const [r, g, b] = [...rgb(n)].map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const [a, b] = [light(name), light(under)].sort((x, y) => y - x);
		return (a + 0.05) / (b + 0.05); })`
	for _, scheme := range []string{"light", "dark"} {
		v.scheme(scheme)
		for _, c := range []struct {
			names string
			least float64
		}{{"fg calm link good bad unsure", 4.5}, {"allowed denied unclear wrong version fault focus axis", 3}} {
			for _, name := range strings.Fields(c.names) {
				for _, under := range []string{"bg", "soft"} {
					if got := ask[float64](v, ratio+`("`+name+`","`+under+`")`); got < c.least {
						t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", scheme, name, under, got, c.least)
					}
				}
			}
		}
	}
}

// many is the number of requests that a page must bear.
const many = 100_000

func TestManyRequestsAreDrawnTogetherInAPageThatCanBeSent(t *testing.T) {
	run := madeRun(many)
	var page bytes.Buffer
	if err := Write(&page, run); err != nil {
		t.Fatal(err)
	}
	const most = 5_000_000
	t.Logf("%d requests are a page of %d bytes", many, page.Len())
	if page.Len() > most {
		t.Errorf("the page has %d bytes, want at most %d", page.Len(), most)
	}
	v := visit(t, run)
	v.open("")
	v.await(drawn)
	if marks := ask[int](v, `Number(document.querySelector(".timeline").dataset.marks)`); marks > 10_000 || marks < 1000 {
		t.Errorf("%d marks are drawn", marks)
	}
	if text := ask[string](v, `document.querySelector(".timeline .bar [role=status]").textContent`); !strings.HasPrefix(text, "100,000 requests, drawn together") {
		t.Errorf("it says %q", text)
	}
	v.do(chromedp.Click(`button[aria-label="to the next finding"]`))
	v.await(`document.querySelector(".card").textContent.includes("leak")`)
}

// BenchmarkOpening is how long a reader waits for a page of many requests.
func BenchmarkOpening(b *testing.B) {
	v := visit(b, madeRun(many))
	for b.Loop() {
		began := time.Now()
		v.open("")
		v.await(drawn)
		b.ReportMetric(time.Since(began).Seconds(), "s/page")
	}
}

var update = flag.Bool("update", false, "make the screenshots in docs anew")

const screenshot = "../../docs/images/report.png"

// TestScreenshot keeps the picture in the documents below what a repository can
// bear; with -update it is made anew.
func TestScreenshot(t *testing.T) {
	if *update {
		v := visit(t, madeRun(2400))
		v.scheme("light")
		v.do(chromedp.EmulateViewport(1280, 1960))
		v.open("")
		v.await(drawn)
		v.do(chromedp.Click(`button[aria-label="to the next finding"]`))
		v.await(`!document.querySelector(".card").hidden`)
		v.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".timeline canvas").focus()`), chromedp.KeyEvent("0"),
			chromedp.Evaluate[chromedp.Void](`document.activeElement.blur(); scrollTo(0, 0)`))
		taken, err := chromedp.Run(v.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(bytes.NewReader(taken))
		if err != nil {
			t.Fatal(err)
		}
		var small bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, plain(picture)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(screenshot, small.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(screenshot)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(200_000); info.Size() > most {
		t.Errorf("%s has %d bytes, want at most %d", screenshot, info.Size(), most)
	}
}

// plain is the picture in its 256 most frequent colours, which is a quarter of
// the size and looks the same.
func plain(picture image.Image) image.Image {
	counts := map[color.RGBA]int{}
	bounds := picture.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		return cmp.Or(counts[b]-counts[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	out := image.NewPaletted(bounds, palette)
	nearest := map[color.RGBA]uint8{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, known := nearest[c]
			if !known {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	return out
}
