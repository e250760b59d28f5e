package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
	"github.com/meshproof/meshproof/internal/incluster"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/merge"
	"github.com/meshproof/meshproof/reports/result"
)

// shardsFolder, in the run's folder, has the result of each shard as it was.
const shardsFolder = "shards"

func newRetrieve(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "retrieve", Short: "Fetch the results of a run inside a cluster and merge them into one run", Args: exactArgs(0),
		Example: "  meshproof retrieve --wait\n  meshproof retrieve --context prod --name meshproof-nightly",
		Long: "Fetches the results of all shards of the Job, or of the newest Job of the CronJob, of that name (default: the newest Job that\n" +
			"meshproof gen has printed) and merges them. The exit code is that of the run; a shard without a result is an error."}
	flags := cmd.Flags()
	var where kubeconfig.Options
	flags.StringVar(&where.Kubeconfig, "kubeconfig", "", "`file` that names the cluster (default $KUBECONFIG, then ~/.kube/config)")
	flags.StringVar(&where.Context, "context", "", "`context` of the kubeconfig")
	asked := &retrieval{}
	flags.StringVarP(&asked.namespace, "namespace", "n", incluster.Namespace, "`namespace` of the Job")
	flags.StringVar(&asked.name, "name", "", "`name` of a Job or CronJob (default the newest Job)")
	flags.BoolVar(&asked.wait, "wait", false, "wait until the Job has finished")
	flags.DurationVar(&asked.timeout, "timeout", incluster.Timeout, "how long to wait")
	output := flags.StringP("output-dir", "o", "", "folder of the runs' folders (default $ARTIFACTS, or artifacts)")
	flags.BoolVarP(&asked.quiet, "quiet", "q", false, "print the findings and the verdict only")
	asked.ending = addEndingFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		session.Quieten()
		client, err := clientOf(where)
		if err != nil {
			return err
		}
		asked.folder = artifacts(*output)
		return asked.retrieve(cmd.Context(), client, streams)
	}
	return cmd
}

// retrieval is what to fetch, and where to put it.
type retrieval struct {
	namespace, name string
	wait, quiet     bool
	timeout         time.Duration
	// folder of the runs' folders.
	folder string
	*ending
}

func (r *retrieval) retrieve(ctx context.Context, client kubernetes.Interface, streams IOStreams) error {
	job, err := incluster.Find(ctx, client, r.namespace, r.name)
	if err != nil {
		return retrieveError(ctx, err)
	}
	if r.wait {
		say := func(line string) {
			if !r.quiet {
				fmt.Fprintln(streams.Err, line)
			}
		}
		patience, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		if job, err = incluster.Wait(patience, client, job, say); err != nil {
			return retrieveError(ctx, err)
		}
	}
	shards, unusable := incluster.Fetch(ctx, client, job)
	if shards == nil {
		return retrieveError(ctx, unusable)
	}
	states, _ := incluster.States(ctx, client, job) // they only explain
	merged, err := together(job, shards, states, unusable)
	if err != nil {
		return err
	}
	var errs []error
	for shard, one := range shards {
		errs = append(errs, reports.WriteAll(filepath.Join(r.folder, merged.ID, shardsFolder, fmt.Sprint(shard)), one))
	}
	return r.finish(streams.Out, r.folder, merged, errors.Join(errs...))
}

// clientOf reaches the cluster that the user names. Errors: *cluster.OptionError
// and *cluster.SetupError.
func clientOf(where kubeconfig.Options) (kubernetes.Interface, error) {
	provider, err := kubeconfig.New(where)
	if err != nil {
		return nil, err
	}
	config, err := provider.Config()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, &cluster.SetupError{Cause: "use the kubeconfig", Err: err}
	}
	return client, nil
}

// retrieveError gives an error of the cluster its type: what was asked for is
// not there, or the cluster did not answer.
func retrieveError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, incluster.ErrNotFound):
		return &ExitError{Code: ExitUsage, Err: fmt.Errorf("retrieve: %w", err)}
	case errors.Is(err, context.DeadlineExceeded):
		return &cluster.SetupError{Cause: "the Job has not finished in time", Err: err, Remedy: "wait longer with --timeout, or retrieve what there is without --wait"}
	}
	return &cluster.SetupError{Cause: "fetch the results", Err: err}
}

// together merges the results of a Job's shards. unusable are those that were
// published and cannot be read.
func together(job *batchv1.Job, shards map[int]*result.Run, states map[int]string, unusable error) (*result.Run, error) {
	how := func(shard int) string {
		state := cmp.Or(states[shard], "has no pod any more")
		return fmt.Sprintf("it %s", state)
	}
	if len(shards) == 0 {
		var lines []string
		for shard := 1; shard <= incluster.Shards(job); shard++ {
			lines = append(lines, fmt.Sprintf("shard %d: %s", shard, how(shard)))
		}
		return nil, &ExitError{Code: ExitSetup, Err: errors.Join(fmt.Errorf("retrieve: no shard of Job %s/%s has published a result: %s", job.Namespace, job.Name, strings.Join(lines, "; ")), unusable)}
	}
	var runs []*result.Run
	for _, run := range shards {
		runs = append(runs, run)
	}
	merged, err := merge.Runs(incluster.RunID(job.CreationTimestamp.Time, job.UID, 0), runs...)
	if err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: fmt.Errorf("merge the shards of Job %s/%s: %w", job.Namespace, job.Name, err)}
	}
	for _, shard := range merge.Missing(merged) {
		text := shard.String() + " is missing"
		merged.Reason = strings.Replace(merged.Reason, text, text+": "+how(shard.Index), 1)
	}
	if unusable != nil {
		merged.Reason += "; " + strings.ReplaceAll(unusable.Error(), "\n", "; ")
	}
	return merged, nil
}
