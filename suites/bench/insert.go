package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// insert replaces what stands between the marks of a name in a page, so that
// nobody types figures into it.
func insert(page, name, text string) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	replaced, err := replaceMarked(string(content), name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(replaced), 0o644)
}

// insertFile inserts what is in a file.
func insertFile(page, name, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return insert(page, name, string(text))
}

func replaceMarked(content, name, text string) (string, error) {
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	head, rest, found := strings.Cut(content, begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("no place for it: want %q and %q", strings.TrimSpace(begin), end)
	}
	return head + begin + strings.TrimRight(text, "\n") + "\n" + end + tail, nil
}

// Marks of what is inserted.
const (
	markFigures  = "figures of make bench"
	markProfiles = "profiles of make bench"
)

// readReport reads bench.json from a folder.
func readReport(dir string) (Report, error) {
	var r Report
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// Readme is the table of what is held against something, in the order of the
// targets, with what the machine was. Rows that the report lacks are there
// without a figure.
func (r Report) Readme() string {
	var b strings.Builder
	b.WriteString("| row | what | measured | gate | top | |\n|---|---|---|---|---|---|\n")
	for _, row := range judge(nil) {
		if at := slices.IndexFunc(r.Rows, func(has Row) bool { return has.ID == row.ID }); at >= 0 {
			row = r.Rows[at]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.ID, row.Name, number(row.Measured), row.bound(row.Gate), row.bound(row.Top), row.remark())
	}
	if len(r.Rows) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "\n%s: %s, %d processors (%s), Linux %s, %s, load average %.1f before; medians of %d rounds.\n", r.Verdict(), r.Began.Format("2006-01-02"), r.Machine.Processors, r.Machine.Model, r.Machine.Kernel, r.Machine.Go, r.Machine.Load, r.Rounds)
	return b.String()
}

// remark says what a figure is not.
func (row Row) remark() string {
	switch {
	case row.Measured == nil && row.RunBy != "":
		return "by " + row.RunBy
	case row.Measured == nil:
		return "not measured"
	case row.GateMet != nil && !*row.GateMet:
		return "**misses the gate**: " + reason(row.ID)
	case row.TopMet != nil && !*row.TopMet:
		return "misses the top figure: " + reason(row.ID)
	}
	return ""
}

func reason(id string) string {
	if text := reasons[id]; text != "" {
		return text
	}
	return "not yet explained"
}
