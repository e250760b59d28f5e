package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

// maxAlike bounds how many findings of one kind about one stream are told one by
// one.
const maxAlike = 5

func newJudge(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "judge RUN", Short: "Judge a recorded run again, without a cluster; RUN is a run's folder", Args: exactArgs(1),
		Long: `Put every question of a run's history to the rules again, in the world in which
it was asked, and list what was observed otherwise than the rules say. Where policy
changed under traffic, judge every request again too: whether it was answered by a
policy that can have been in force, whether the application got what it should, and
how long each change took. It needs no cluster: after a change of the rules, or with
the run of somebody else.`,
		Example: "  meshproof judge artifacts/latest"}
	chains := cmd.Flags().BoolP("verbose", "v", false, "print the rules' reasons under each finding of the traffic")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		h, err := history.Open(args[0])
		if errors.Is(err, fs.ErrNotExist) {
			return usageError("%s: no run has left a %s there", args[0], history.FileName)
		}
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		if len(h.Questions)+len(h.Recordings) == 0 {
			return &ExitError{Code: ExitInconclusive, Err: errors.New("nothing was asked in this run")}
		}
		again := judgement{out: streams.Out, chains: *chains}
		if err := again.questions(h); err != nil {
			return err
		}
		for _, r := range h.Recordings {
			if err := again.recording(r, h.Worlds); err != nil {
				return err
			}
		}
		if h.Cut {
			fmt.Fprintln(streams.Err, "the history ends in the middle: the run did not come to its end")
		}
		if err := again.totals(h); err != nil {
			return err
		}
		switch {
		case again.differ > 0 || again.failed:
			return &ExitError{Code: ExitFinding}
		case again.thin > 0:
			return &ExitError{Code: ExitInconclusive, Err: fmt.Errorf("%d windows hold too few answers to say anything", again.thin)}
		}
		return nil
	}
	return cmd
}

// judgement is what comes out of a history, while it is printed.
type judgement struct {
	out    io.Writer
	chains bool
	run    result.Run
	// differ counts questions, thin windows with too few answers.
	differ, thin int
	// findings of recordings; failed says that they are more than is tolerated.
	findings int
	failed   bool
}

// questions judges what was asked at rest.
func (j *judgement) questions(h *history.History) error {
	settled := map[string]bool{}
	for _, q := range h.Questions {
		settled[q.Claim] = settled[q.Claim] || !q.Early
	}
	for _, q := range h.Questions {
		if q.Early && settled[q.Claim] {
			continue // it came true in its time
		}
		differences, err := q.AsItWas()
		if err != nil {
			return err
		}
		if len(differences) > 0 {
			j.differ++
		}
		for _, text := range differences {
			if _, err := fmt.Fprintf(j.out, "%s: %s\n", q.Claim, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// recording judges what happened in a scenario while its policy changed.
func (j *judgement) recording(r *history.Recording, worlds map[string]*history.World) error {
	v, err := transition.Judge(r, worlds, oracle.DefaultRules())
	if err != nil {
		return err
	}
	type kind struct {
		stream string
		kind   transition.Kind
	}
	told := map[kind]int{}
	for _, f := range v.Findings {
		if told[kind{f.Stream, f.Kind}]++; told[kind{f.Stream, f.Kind}] > maxAlike {
			continue
		}
		step := ""
		if f.Step != "" {
			step = " / " + f.Step
		}
		fmt.Fprintf(j.out, "%s%s: %s\n", r.Scenario, step, f.Text)
		for _, line := range f.Chain {
			if j.chains {
				fmt.Fprintf(j.out, "    %s\n", line)
			}
		}
	}
	for _, f := range v.Findings {
		k := kind{f.Stream, f.Kind}
		if more := told[k] - maxAlike; more > 0 {
			told[k] = 0
			fmt.Fprintf(j.out, "%s: and %d more of %s that are %s\n", r.Scenario, more, f.Stream, f.Kind)
		}
	}
	wrong := v.Wrong()
	for _, line := range wrong {
		fmt.Fprintf(j.out, "%s: %s\n", r.Scenario, line)
	}
	for _, thin := range v.Thin() {
		j.thin++
		fmt.Fprintf(j.out, "%s: %s\n", r.Scenario, thin)
	}
	j.findings += len(v.Findings) + len(wrong)
	j.failed = j.failed || v.Failed() || len(wrong) > 0
	j.run.Scenarios = append(j.run.Scenarios, result.Scenario{Name: r.Scenario, Transitions: v.Summary()})
	return nil
}

// totals are the last lines.
func (j *judgement) totals(h *history.History) error {
	j.run.Conclude(nil, false)
	line := fmt.Sprintf("%d questions in %d worlds judged, %d differ", len(h.Questions), len(h.Worlds), j.differ)
	if c := j.run.Changes; c != nil {
		text.Changes(j.out, c)
		line += fmt.Sprintf("; %d requests in %d scenarios with traffic judged, %d findings", c.Requests, len(h.Recordings), j.findings)
	}
	_, err := fmt.Fprintln(j.out, line)
	return err
}
