package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/policy/order"
)

func newOrder(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "order -f FILE... [--change FILE...] [--delete KIND/NAME...]", Short: "Say in which order a change of policy is best written, without a cluster", Args: exactArgs(0),
		Long: `Say what happens between the first write of a change and the last one: which calls
are denied in between although they are allowed before and after (a deny gap), and
which are let through although they are denied before and after (an allow gap), and
in which order the change has neither. -f is what is there, with the workloads;
--change is applied, as it stands in the files, and --delete goes after that. Without
--pod every port of every workload is looked at, as meshproof matrix does.`,
		Example: `  meshproof order -f workloads/ -f policies/ --change new/
  meshproof order -f workloads/ -f policies/ --change new/ --delete ServerAuthorization/shop/old --check`}
	manifests := addManifestFlags(cmd)
	change := cmd.Flags().StringArray("change", nil, "file or folder of manifests that are applied; may be given several times")
	gone := cmd.Flags().StringArray("delete", nil, "KIND/NAME or KIND/NAMESPACE/NAME of an object that is deleted; may be given several times")
	pod := cmd.Flags().String("pod", "", "NAMESPACE/POD or NAMESPACE/KIND/NAME that is called, instead of all")
	port := cmd.Flags().String("port", "", "number or name of a declared port of the pod, instead of all")
	from := cmd.Flags().StringArray("from", nil, "a client, as explain has it, instead of all; may be given several times")
	request := cmd.Flags().String("request", "", "'GET /path', 'h2 GET /path' or 'grpc /package.Service/Method', instead of what the policies tell apart")
	headers := cmd.Flags().StringArrayP("header", "H", nil, "'NAME: VALUE' of the request, Host among them; may be given several times")
	check := cmd.Flags().Bool("check", false, "exit with 1 when the order of the files has a gap")
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	cmd.RunE = func(_ *cobra.Command, _ []string) error {
		if *output != "text" && *output != "json" {
			return usageError("unknown output %q: want text or json", *output)
		}
		set, judge, err := manifests.read(streams)
		if err != nil {
			return err
		}
		planned, err := changeOf(manifests, set, *change, *gone)
		if err != nil {
			return err
		}
		planned.Dialect, planned.Rules = judge.Dialect, judge.Rules
		ask := calls{set: set, before: judge, after: oracle.Oracle{World: planned.After, Dialect: judge.Dialect, Rules: judge.Rules}}
		if planned.Calls, err = ask.all(*pod, *port, *from, *request, *headers); err != nil {
			return err
		}
		plan, err := planned.Plan()
		if err != nil {
			return usageError("%w", err)
		}
		report := plan.Report()
		if *output == "json" {
			err = explain.WriteJSON(streams.Out, report)
		} else {
			err = report.WriteText(streams.Out)
		}
		if err != nil {
			return err
		}
		if *check && len(plan.AsWritten.Gaps) > 0 {
			return &ExitError{Code: ExitFinding, Err: errors.New("the order of the files has gaps")}
		}
		return nil
	}
	return cmd
}

// changeOf reads what is applied and takes away what is deleted.
func changeOf(manifests *manifestFlags, set *objects.Set, files, gone []string) (order.Change, error) {
	c := order.Change{Before: set.World, After: set.World}
	var sources []objects.Source
	for _, name := range files {
		sources = append(sources, objects.Source{Name: name})
	}
	if len(sources)+len(gone) == 0 {
		return c, usageError("nothing changes: name manifests with --change, or objects with --delete")
	}
	if len(sources) > 0 {
		applied, err := objects.Read(sources, objects.Options{Namespace: manifests.namespace})
		if err != nil {
			return c, &ExitError{Code: ExitUsage, Err: err}
		}
		if len(applied.Workloads)+len(applied.Others)+len(applied.World.Namespaces) > 0 {
			return c, usageError("--change: only policy objects and routes are put into an order; what else there is belongs to -f")
		}
		for _, w := range applied.Written {
			objects.Take(&c.After, applied.World, w.Kind, w.Namespace, w.Name)
			c.Writes = append(c.Writes, order.Write{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name})
		}
	}
	for _, text := range gone {
		parts := strings.Split(text, "/")
		if len(parts) == 2 {
			parts = []string{parts[0], manifests.namespace, parts[1]}
		}
		at := slices.IndexFunc(set.Written, func(n objects.Named) bool {
			return len(parts) == 3 && strings.EqualFold(n.Kind, parts[0]) && n.Namespace == parts[1] && n.Name == parts[2]
		})
		if at < 0 {
			return c, usageError("--delete %q: want KIND/NAME or KIND/NAMESPACE/NAME of an object among what -f names", text)
		}
		w := order.Write{Deleted: true, Kind: set.Written[at].Kind, Namespace: parts[1], Name: parts[2]}
		if slices.ContainsFunc(c.Writes, func(o order.Write) bool { o.Deleted = true; return o == w }) {
			return c, usageError("--delete %q: it is among what is applied, or deleted twice", text)
		}
		objects.Take(&c.After, oracle.World{}, w.Kind, w.Namespace, w.Name)
		c.Writes = append(c.Writes, w)
	}
	return c, nil
}

// calls are those that a change is held against.
type calls struct {
	set           *objects.Set
	before, after oracle.Oracle
}

// all are the calls that the flags mean: by every client to every port, with every
// request that the policies before or after the change tell apart, as far as no
// flag says otherwise.
func (c calls) all(pod, port string, from []string, request string, headers []string) ([]order.Call, error) {
	workloads := c.set.Workloads
	if pod != "" {
		one, err := explain.FindWorkload(c.set, pod)
		if err != nil {
			return nil, usageError("--pod: %w", err)
		}
		workloads = []objects.Workload{one}
	}
	if len(workloads) == 0 {
		return nil, usageError("no workload was read: add the manifests of Deployments or Pods with -f")
	}
	if port != "" && pod == "" {
		return nil, usageError("--port needs a --pod")
	}
	var clients []explain.Client
	for _, text := range from {
		client, err := explain.ParseClient(text, c.before.World.Settings)
		if err != nil {
			return nil, usageError("--from: %w", err)
		}
		clients = append(clients, client)
	}
	if len(clients) == 0 {
		var err error
		if clients, err = explain.Clients(c.set, c.before.World.Settings); err != nil {
			return nil, usageError("%w; name clients with --from", err)
		}
	}
	var asked []oracle.Request
	if request != "" {
		one, err := explain.ParseRequest(request, headers)
		if err != nil {
			return nil, usageError("--request: %w", err)
		}
		asked = []oracle.Request{one}
	}
	var out []order.Call
	for _, w := range workloads {
		ports, err := c.ports(w, port)
		if err != nil {
			return nil, err
		}
		for _, number := range ports {
			for _, r := range c.requests(w, number, asked) {
				for _, client := range clients {
					out = append(out, order.Call{Name: fmt.Sprintf("%s → %s:%d %s", client.Name, w, number, explain.Describe(r)), Pod: w.Pod, Port: number, Client: client.Client, Request: r})
				}
			}
		}
	}
	return out, nil
}

// ports of a workload, but for the proxy's own unless it is asked for.
func (c calls) ports(w objects.Workload, port string) ([]uint16, error) {
	if port != "" {
		number, _, err := explain.FindPort(w.Pod, port)
		if err != nil {
			return nil, usageError("--port: %w", err)
		}
		return []uint16{number}, nil
	}
	var out []uint16
	for _, p := range oracle.Ports(w.Pod) {
		if number := uint16(p.ContainerPort); number != api.AdminPort && !slices.Contains(out, number) {
			out = append(out, number)
		}
	}
	return out, nil
}

// requests that the policy of a port tells apart, before or after.
func (c calls) requests(w objects.Workload, port uint16, asked []oracle.Request) []oracle.Request {
	if asked != nil {
		return asked
	}
	var out []oracle.Request
	for _, judge := range []oracle.Oracle{c.before, c.after} {
		for _, r := range explain.Requests(judge.Resolve(w.Pod, port)) {
			if !slices.ContainsFunc(out, func(known oracle.Request) bool { return explain.Describe(known) == explain.Describe(r) }) {
				out = append(out, r)
			}
		}
	}
	return out
}
