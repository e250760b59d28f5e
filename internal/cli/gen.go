package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/internal/incluster"
	"github.com/meshproof/meshproof/scenarios"
)

func newGen(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "gen", Short: "Print manifests for runs inside a cluster", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newGenJob(streams, "job", "Print an Indexed Job whose pods each run a part of the claims",
		"  meshproof gen job --shards 3 | kubectl apply -f -\n  meshproof retrieve --wait\n  meshproof gen job --shards 2 -l probes -- --parallel 4"))
	cmd.AddCommand(newGenJob(streams, "cronjob", "Print a CronJob that makes such a Job again and again",
		"  meshproof gen cronjob --schedule '0 2 * * *' --shards 3 | kubectl apply -f -\n  meshproof retrieve --name meshproof-nightly"))
	return cmd
}

// nightlyName is what a CronJob is called whose user did not care.
const nightlyName = incluster.Name + "-nightly"

// taken are flags of `meshproof run` that the manifests set themselves, or that
// make no sense in a pod.
var taken = []string{"cluster", "cluster-name", "keep", "kubeconfig", "context", "kind-image", "kind-config", "nodes", "retain", "images-from",
	"shard", "publish", "dry-run", "output-dir", "github-output", "label-filter", "features", "exempt-features", "profile", "seed", "registry"}

func newGenJob(streams IOStreams, use, short, example string) *cobra.Command {
	cmd := &cobra.Command{Use: use + " [SCENARIO...] [-- FLAGS OF RUN...]", Short: short, Example: example}
	selected := addSelectionFlags(cmd)
	flags := cmd.Flags()
	var o incluster.Options
	var policy string
	flags.IntVar(&o.Shards, "shards", 1, "`number` of pods among which the claims are split")
	flags.StringVar(&o.Image, "image", "", "`image` with this program (default meshproof/meshproof:dev)")
	flags.StringVar(&o.Registry, "registry", "", "`registry` that has all images (see meshproof images push)")
	flags.StringVar(&policy, "image-pull-policy", "", "Always, IfNotPresent or Never (default IfNotPresent)")
	flags.StringSliceVar(&o.PullSecrets, "image-pull-secret", nil, "`name` of a Secret in the namespace, for pulling")
	flags.StringVarP(&o.Namespace, "namespace", "n", incluster.Namespace, "`namespace` for the Job and its results")
	name := incluster.Name
	if use == "cronjob" {
		name = nightlyName
		flags.StringVar(&o.Schedule, "schedule", "0 2 * * *", "when to run, as `five fields` of cron")
		flags.StringVar(&o.TimeZone, "time-zone", "", "`name` of the schedule's time zone (default that of the control plane)")
	}
	flags.StringVar(&o.Name, "name", name, "`name` of the objects")
	flags.DurationVar(&o.Timeout, "timeout", incluster.Timeout, "how long all shards together may take")
	installs := flags.Bool("install-mesh", false, "grant the rights to install the mesh, too; without, it has to stand already")
	seed := flags.Int64("seed", 0, "seed of the run (default: another for every Job)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		names, further := args, []string(nil)
		if at := cmd.ArgsLenAtDash(); at >= 0 {
			names, further = args[:at], args[at:]
		}
		if i := slices.IndexFunc(names, isPath); i >= 0 {
			return usageError("%s: scenario files are not in the image; name scenarios of the library", names[i])
		}
		plan, err := selected.plan(names)
		if err != nil {
			return err
		}
		if len(plan.Claims()) == 0 {
			return usageError("no claim is selected")
		}
		if err := runFlags(further); err != nil {
			return err
		}
		o.Args = append(o.Args, selected.args()...)
		if flags.Changed("seed") {
			o.Args = append(o.Args, "--seed", fmt.Sprint(*seed))
		}
		o.Args = append(append(o.Args, further...), names...)
		o.PullPolicy, o.Rules = corev1.PullPolicy(policy), guest.Rules(*installs || changesMesh(plan))
		if use == "cronjob" && o.Schedule == "" {
			return usageError("--schedule: say when to run, such as '0 2 * * *'")
		}
		objects, err := incluster.Objects(o)
		var wrong *incluster.OptionError
		if errors.As(err, &wrong) {
			return &ExitError{Code: ExitUsage, Err: err}
		} else if err != nil {
			return err
		}
		text, err := incluster.Manifest(objects...)
		if err != nil {
			return err
		}
		_, err = streams.Out.Write(text)
		return err
	}
	return cmd
}

// changesMesh says whether a scenario of the plan installs the mesh with other
// settings, which takes the rights to install it.
func changesMesh(plan *scenarios.Plan) bool {
	for _, scenario := range plan.Scenarios {
		for _, step := range scenario.Spec.Steps {
			if slices.ContainsFunc(step.Actions, func(a scenarios.Action) bool { return a.Install != nil }) {
				return true
			}
		}
	}
	return false
}

// runFlags checks flags that are handed on to `meshproof run` in a pod.
func runFlags(args []string) error {
	run := newRun(IOStreams{})
	if err := run.ParseFlags(args); err != nil {
		return usageError("after --: %w", err)
	}
	if rest := run.Flags().Args(); len(rest) > 0 {
		return usageError("after --: %q is no flag; name scenarios before it", rest[0])
	}
	var refused error
	run.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(taken, f.Name) && refused == nil {
			refused = usageError("after --: --%s cannot be set for the pods of a Job", f.Name)
		}
	})
	return refused
}
