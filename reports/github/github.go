// Package github tells a run to GitHub Actions: findings as annotations at the
// line of the scenario that asked, the findings of each scenario as a group of
// the log, and a page for the summary of the step.
//
// A result.Run and what the runner has put into the environment flow in;
// workflow commands and Markdown come out. It judges nothing, and it lets
// nothing that a program under test has said become a command of the runner.
package github

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/meshproof/meshproof/reports/markdown"
	"github.com/meshproof/meshproof/reports/result"
)

// Name is what a user asks for this report by.
const Name = "github"

// MaxSummary is how large the summary of a step may become, in bytes: GitHub
// drops one of more than 1 MiB as a whole. What it says about "1024k" leaves
// open how it counts, so that a margin is kept.
const MaxSummary = 1_000_000

// libraryFolder is where the scenarios stand that are part of the program, in
// the repository it is built from.
const libraryFolder = "scenarios/library/"

// Environment is what the writer needs of the runner's.
type Environment struct {
	// Summary is the file that takes the step's summary; empty: none is written.
	Summary string
	// Workspace is the folder that holds the repository: annotations name files
	// from there. Empty: names stay as they are.
	Workspace string
	// Dir is the folder that relative names of scenario files are meant from,
	// absolute.
	Dir string
}

// Detect reads the environment of a step, where getenv is os.Getenv outside of
// tests and dir is the folder the files are named from. It is false outside of
// GitHub Actions; the Environment can be written to all the same.
func Detect(getenv func(string) string, dir string) (Environment, bool) {
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	env := Environment{Summary: getenv("GITHUB_STEP_SUMMARY"), Workspace: getenv("GITHUB_WORKSPACE"), Dir: dir}
	return env, getenv("GITHUB_ACTIONS") == "true"
}

// Write writes the commands to out, which has to be the step's standard output,
// and appends the page to the step's summary.
func Write(out io.Writer, env Environment, run *result.Run) error {
	return errors.Join(Commands(out, env, run), appendSummary(env.Summary, run))
}

// place is a scenario file as the repository knows it.
func (env Environment) place(file string) string {
	if file == "" || strings.HasPrefix(file, libraryFolder) {
		return file
	}
	path := file
	if !filepath.IsAbs(path) {
		path = filepath.Join(env.Dir, path)
	}
	if env.Workspace == "" || !filepath.IsAbs(path) {
		return filepath.ToSlash(file)
	}
	inside, err := filepath.Rel(env.Workspace, path)
	if err != nil || inside == ".." || strings.HasPrefix(inside, ".."+string(filepath.Separator)) {
		return filepath.ToSlash(file) // not of the repository: GitHub shows the text without the line
	}
	return filepath.ToSlash(inside)
}

// appendSummary adds the page to what other programs of the same step have
// written. It leaves out the end of a page that would cost the whole summary.
func appendSummary(path string, run *result.Run) error {
	if path == "" {
		return nil
	}
	var page bytes.Buffer
	if err := markdown.Write(&page, run); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("append to the step's summary: %w", err)
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.Write(cut(page.Bytes(), MaxSummary-int(info.Size())))
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("append to the step's summary: %w", err)
	}
	return nil
}

const (
	openDetails, closeDetails = "<details>", "</details>"
	openText, closeText       = "<pre>", "</pre>"
	cutNote                   = "\nThe page was cut here, because a summary may not be larger; `run.json` and `report.html` hold all of it.\n"
)

// cut keeps the whole lines of a page that fit into limit, together with a note
// that says so, and closes what they have opened. Nothing is left where not even
// the note fits.
func cut(page []byte, limit int) []byte {
	if len(page) <= limit {
		return page
	}
	room := limit - len(cutNote) - len(closeText+closeDetails) - 2
	if room < 0 {
		return nil
	}
	kept := page[:bytes.LastIndexByte(page[:room], '\n')+1]
	var end strings.Builder
	if bytes.Count(kept, []byte(openText)) > bytes.Count(kept, []byte(closeText)) {
		end.WriteString(closeText + "\n")
	}
	if bytes.Count(kept, []byte(openDetails)) > bytes.Count(kept, []byte(closeDetails)) {
		end.WriteString(closeDetails + "\n")
	}
	end.WriteString(cutNote)
	return append(bytes.Clone(kept), end.String()...)
}
