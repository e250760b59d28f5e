package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Report is bench.json.
type Report struct {
	SchemaVersion int       `json:"schemaVersion"`
	Began         time.Time `json:"began"`
	// Machine is what the figures are of.
	Machine Machine `json:"machine"`
	Rounds  int     `json:"rounds"`
	// Seconds is how long each load was counted.
	Seconds float64 `json:"seconds"`
	Rows    []Row   `json:"rows"`
	// Failures say why there is no figure where one should be.
	Failures map[string]string `json:"failures,omitempty"`
}

// Machine is where it ran.
type Machine struct {
	Processors int    `json:"processors"`
	Model      string `json:"model"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	// Load is the load average when it began: much more than nothing makes
	// figures of this run suspect.
	Load float64 `json:"load"`
}

func thisMachine() Machine {
	m := Machine{Processors: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, line, _ := strings.Cut(string(text), "model name")
		line, _, _ = strings.Cut(line, "\n")
		m.Model = strings.Trim(line, "\t :")
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(text), &m.Load)
	}
	return m
}

// write leaves bench.json and bench.md in dir, whole or not at all.
func (r Report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"bench.json": string(text) + "\n", "bench.md": r.Markdown()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// Markdown is the table: rows with a gate first, then what there is to look at.
func (r Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d processors (%s), Linux %s, %s, load %.2f; %d rounds of %v s each\n\n", r.Machine.Processors, r.Machine.Model, r.Machine.Kernel, r.Machine.Go, r.Machine.Load, r.Rounds, r.Seconds)
	b.WriteString("| id | name | measured | gate | top | gate met | top met | rounds |\n|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %d |\n", row.ID, row.Name, number(row.Measured), row.bound(row.Gate), row.bound(row.Top), answer(row.GateMet), answer(row.TopMet), row.Rounds)
	}
	return b.String()
}

// SideBySide is what there is to look at, a line for each figure of a load and a
// column for each target.
func (r Report) SideBySide(chosen []scenario) string {
	measured := map[string]*float64{}
	for _, row := range r.Rows {
		measured[row.ID] = row.Measured
	}
	var b strings.Builder
	b.WriteString("| load | figure |")
	for _, t := range targets {
		b.WriteString(" " + t.name + " |")
	}
	b.WriteString("\n|---|---" + strings.Repeat("|---", len(targets)) + "|\n")
	for _, s := range chosen {
		if s.contenders != nil {
			continue
		}
		for _, f := range s.figures() {
			fmt.Fprintf(&b, "| %s | %s |", s.name, f.name)
			for _, t := range targets {
				fmt.Fprintf(&b, " %s |", number(measured[rowID(s, f, t.name)]))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Judged is the report with the rows that are held against something.
func (r Report) Judged() Report {
	r.Rows = slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return !row.judged() })
	return r
}

// Verdict is the last line.
func (r Report) Verdict() string {
	var gates, gatesMet, tops, topsMet, missing int
	for _, row := range r.Rows {
		switch {
		case !row.judged():
			continue
		case row.Measured == nil:
			missing++
			continue
		}
		if row.TopMet != nil {
			tops++
			if *row.TopMet {
				topsMet++
			}
		}
		if row.GateMet != nil {
			gates++
			if *row.GateMet {
				gatesMet++
			}
		}
	}
	verdict := fmt.Sprintf("%d of %d gates met, %d of %d top figures", gatesMet, gates, topsMet, tops)
	if missing > 0 {
		verdict += fmt.Sprintf("; %d rows were not measured", missing)
	}
	return verdict
}

func (row Row) bound(v *float64) string {
	if v == nil {
		return ""
	}
	sign := "<= "
	if row.Bound == "at least" {
		sign = ">= "
	}
	return sign + number(v)
}

func number(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case *v >= 1000:
		return fmt.Sprintf("%.0f", *v)
	case *v >= 10:
		return fmt.Sprintf("%.1f", *v)
	}
	return fmt.Sprintf("%.2f", *v)
}

func answer(v *bool) string {
	switch {
	case v == nil:
		return ""
	case *v:
		return "yes"
	}
	return "no"
}
