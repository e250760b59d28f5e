package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/live"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

func newExplain(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "explain [-f FILE...] [--live] --pod POD --port PORT --from CLIENT", Short: "Say what manifests allow, and why, without a cluster", Args: exactArgs(0),
		Long: `Say what becomes of one request under the policies in some manifests, with every
rule that had a part in it. The exit code is 0 for either verdict, unless --expect
names the other one: then it is 1, and explain is a unit test of policies. With
--live a client on a running cluster really asks, and a difference is exit code 1.`,
		Example: `  meshproof explain -f policies/ -f workloads/ --pod emojivoto/deploy/voting --port grpc \
    --from emojivoto/web --request 'grpc /emojivoto.v1.VotingService/VoteDog'
  kubectl get -A -o yaml pods,ns,servers,saz | meshproof explain -f - --pod shop/web-0 --port 8080 \
    --from unmeshed@203.0.113.7 --request 'GET /admin' --expect denied
  meshproof explain --live --pod emojivoto/deploy/voting --port grpc --from emojivoto/web`}
	manifests := addManifestFlags(cmd)
	asking := addLiveFlags(cmd)
	pod := cmd.Flags().String("pod", "", "NAMESPACE/POD, or NAMESPACE/KIND/NAME of a workload such as emojivoto/deploy/web")
	port := cmd.Flags().String("port", "", "number, or name of a declared port")
	from := cmd.Flags().String("from", "", "NAMESPACE/SERVICEACCOUNT, unmeshed, tls-no-identity, spiffe://ID, localhost or self; @ADDRESS may follow")
	request := cmd.Flags().String("request", "", "'GET /path', 'h2 GET /path' or 'grpc /package.Service/Method' (default: what the port's protocol suggests)")
	headers := cmd.Flags().StringArrayP("header", "H", nil, "'NAME: VALUE' of the request, Host among them; may be given several times")
	tcp := cmd.Flags().Bool("tcp", false, "a connection that is not HTTP, instead of --request")
	expect := cmd.Flags().String("expect", "", "allowed or denied: exit with 1 when the verdict is the other one")
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output != "text" && *output != "json" {
			return usageError("unknown output %q: want text or json", *output)
		}
		if *expect != "" && *expect != "allowed" && *expect != "denied" {
			return usageError("--expect %q: want allowed or denied", *expect)
		}
		if *pod == "" || *port == "" || *from == "" {
			return usageError("explain needs --pod, --port and --from; see meshproof explain --help")
		}
		if *tcp && (*request != "" || len(*headers) > 0) {
			return usageError("--tcp and --request exclude each other")
		}
		about, err := asking.read(cmd, streams, manifests)
		if err != nil {
			return err
		}
		set, judge := about.set, about.judge
		var q explain.Question
		if q.Workload, err = explain.FindWorkload(set, *pod); err != nil {
			return usageError("--pod: %w", err)
		}
		if q.Port, q.PortName, err = explain.FindPort(q.Workload.Pod, *port); err != nil {
			return usageError("--port: %w", err)
		}
		if q.Client, err = explain.ParseClient(*from, judge.World.Settings); err != nil {
			return usageError("--from: %w", err)
		}
		switch {
		case *tcp:
			q.Request = &oracle.Request{Protocol: oracle.TCP}
		case *request != "":
			asked, err := explain.ParseRequest(*request, *headers)
			if err != nil {
				return usageError("--request: %w", err)
			}
			q.Request = &asked
		case len(*headers) > 0:
			return usageError("--header needs a --request")
		}
		answer := explain.Ask(judge, set, q)
		if asking.on {
			err := asking.visit(cmd.Context(), about, func(v *live.Visit) (err error) {
				clients := []explain.Client{q.Client}
				if err := v.Clients(cmd.Context(), clients); err != nil {
					return err
				}
				q.Client = clients[0]
				answer, err = v.Explain(cmd.Context(), judge, set, q)
				return err
			})
			if err != nil {
				return err
			}
		}
		if *output == "json" {
			err = explain.WriteJSON(streams.Out, answer)
		} else {
			err = answer.WriteText(streams.Out)
		}
		if err != nil {
			return err
		}
		if answer.Live.Differs() {
			return &ExitError{Code: ExitFinding, Err: fmt.Errorf("the cluster answers %s, and the rules say %s", answer.Live.Outcome, answer.Outcome)}
		}
		if *expect != "" && answer.Allowed != (*expect == "allowed") {
			return &ExitError{Code: ExitFinding, Err: fmt.Errorf("expected %s, and it is %s", *expect, answer.Outcome)}
		}
		return nil
	}
	return cmd
}
