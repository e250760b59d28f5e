package html

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"

	"github.com/meshproof/meshproof/reports/timeline"
)

// packed is the time line as the page's script reads it. Base64 has no character
// that means anything in HTML.
func packed(line *timeline.Timeline) (template.HTML, error) {
	var out bytes.Buffer
	encoder := base64.NewEncoder(base64.StdEncoding, &out)
	zip, err := gzip.NewWriterLevel(encoder, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if err := json.NewEncoder(zip).Encode(line); err != nil {
		return "", err
	}
	if err := zip.Close(); err != nil {
		return "", err
	}
	if err := encoder.Close(); err != nil {
		return "", err
	}
	return template.HTML(out.String()), nil
}

// span is a time in microseconds as people read it.
func span(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 100_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	case us < 1_000_000:
		return fmt.Sprintf("%d ms", us/1000)
	}
	return fmt.Sprintf("%.2f s", float64(us)/1e6)
}

// fidelity says whether the traffic was sent that was meant to be sent.
type fidelity struct {
	Streams                  []streamView
	Planned, Achieved        float64
	Sent, Missed             int64
	Windows, Thin            int
	Slack                    int64
	Kept, Broken, Unanswered int
}

type streamView struct {
	timeline.Stream
	Scenario string
	// Low says that less than keptShare of the rate was reached, Least is the
	// window with the fewest informative requests.
	Low   bool
	Least *timeline.Window
}

// keptShare of the planned rate is what a stream has to reach to count as kept.
const keptShare = 0.95

func fidelityOf(evidence *timeline.Evidence) *fidelity {
	f := &fidelity{}
	for i := range evidence.Timelines {
		line := &evidence.Timelines[i]
		f.Slack = max(f.Slack, line.Slack)
		for _, stream := range line.Streams {
			v := streamView{Stream: stream, Scenario: line.Scenario, Low: stream.Achieved < keptShare*stream.Rate}
			f.Planned += stream.Rate
			f.Achieved += stream.Achieved
			f.Sent += stream.Sent
			f.Missed += stream.Missed
			if v.Low {
				f.Broken++
			} else {
				f.Kept++
			}
			for j := range stream.Windows {
				w := &stream.Windows[j]
				f.Windows++
				if w.Informative < w.Wanted {
					f.Thin++
				}
				if v.Least == nil || w.Informative < v.Least.Informative {
					v.Least = w
				}
			}
			f.Streams = append(f.Streams, v)
		}
	}
	if len(f.Streams) == 0 {
		return nil
	}
	return f
}

// Share of the planned rate that was reached, in percent.
func (s streamView) Share() string {
	if s.Rate == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*s.Achieved/s.Rate)
}

// Thin says that there is a window in which too little was seen.
func (s streamView) Thin() bool { return s.Least != nil && s.Least.Informative < s.Least.Wanted }
