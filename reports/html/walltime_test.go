package html

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/reports/result"
)

func TestThePageSaysWhereTheTimeWent(t *testing.T) {
	run := &result.Run{WallTime: []result.Spent{{On: "cluster", Seconds: 5}, {On: "pods", Seconds: 10, Work: 31}, {On: "judging", Seconds: 5, Work: 6}},
		Scenarios: []result.Scenario{
			{Name: "short", Duration: 2, WallTime: []result.Spent{{On: "judging", Seconds: 2}}},
			{Name: "skipped"},
			{Name: "long", Duration: 35, WallTime: []result.Spent{{On: "judging", Seconds: 4}, {On: "pods", Seconds: 31}}},
		}}
	got := wallTimeOf(run, anchors(run.Scenarios))
	want := &wallTime{Seconds: 20, Named: []string{"pods", "judging"},
		Phases:    []phase{{run.WallTime[0], 25}, {run.WallTime[1], 50}, {run.WallTime[2], 25}},
		Scenarios: []spent{{"long", "long", 35, []float64{31, 4}}, {"short", "short", 2, []float64{0, 2}}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	var page, without strings.Builder
	if err := Write(&page, run); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<a href="#walltime">`, "20.0 s of wall time", `aria-label="50 %"`, `<td class="n">31.0 s</td>`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	run.WallTime = nil
	if err := Write(&without, run); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(without.String(), "walltime") {
		t.Error("the page of a run that does not say where its time went has the part")
	}
}

func TestWhereTheTimeWentIsReadOnAPhone(t *testing.T) {
	v := visit(t, madeRun(200))
	v.do(chromedp.EmulateViewport(400, 800))
	v.open("#walltime")
	v.await(`document.querySelector(".spent rect")`)
	if wide := ask[int](v, `document.querySelector(".spent").getBoundingClientRect().right`); wide > 400 {
		t.Errorf("the table ends at %d of 400 pixels", wide)
	}
	if wide := ask[int](v, `document.documentElement.scrollWidth`); wide > 400 {
		t.Errorf("the page is %d pixels wide on a screen of 400", wide)
	}
	// Half of the made-up run's time was spent on its windows: the bars are drawn.
	bars := ask[[]float64](v, `[...document.querySelectorAll(".spent svg")].map(s => s.firstChild.getBoundingClientRect().width / s.getBoundingClientRect().width)`)
	if len(bars) != 5 || bars[3] < 0.4 || bars[3] > 0.5 || bars[4] > bars[3]/4 {
		t.Errorf("the bars have shares %.2f", bars)
	}
}
