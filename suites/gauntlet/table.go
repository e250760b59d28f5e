package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names of what is written beside the defects' own folders.
const (
	tableFile = "gauntlet.md"
	dataFile  = "gauntlet.json"
)

// table is the result of a gauntlet: of a whole one, or of one that goes on and
// has verdicts for some of its defects.
type table struct {
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Caught  int       `json:"caught"`
	Total   int       `json:"total"`
	Defects []verdict `json:"defects"`
}

func newTable(began time.Time, verdicts []verdict, total int) table {
	t := table{Started: began.UTC(), Seconds: time.Since(began).Seconds(), Total: total, Defects: verdicts}
	for _, v := range verdicts {
		if v.Outcome == caught {
			t.Caught++
		}
	}
	return t
}

// write leaves the table in folder, for people and for programs.
func (t table) write(folder string) error {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	var text strings.Builder
	t.markdown(&text)
	for name, content := range map[string]string{dataFile: string(data) + "\n", tableFile: text.String()} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
	}
	return nil
}

// markdown writes a row per defect, those first that were not caught.
func (t table) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Gauntlet\n\n%s, in %s.\n\n", t.last(), seconds(t.Seconds))
	fmt.Fprintln(w, "| Defect | Where | What it does | Caught by | After |")
	fmt.Fprintln(w, "|---|---|---|---|---|")
	for _, right := range []bool{false, true} {
		for _, v := range t.Defects {
			if (v.Outcome == caught) != right {
				continue
			}
			by, after := fmt.Sprintf("**%s**: %s", v.Outcome, firstLine(v.Reason)), ""
			if right {
				by, after = v.By.String(), seconds(v.Catch)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", v.Name, cell(v.Part), cell(v.Title), cell(by), after)
		}
	}
}

// last is the line that says it all.
func (t table) last() string { return fmt.Sprintf("caught %d of %d", t.Caught, t.Total) }

func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(text)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}
