package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
)

// Program starts the role: a command, its arguments, and how to read how much
// processor time a process has used.
type Program struct {
	Path string
	Args []string
	CPU  func(pid int) (time.Duration, error)
	// Start starts the command; nil for its own Start.
	Start func(*exec.Cmd) error
}

// Figures by name.
type Figures map[string]float64

// Measure takes all figures once. Those that could not be taken are in the error.
func Measure(ctx context.Context, p Program, size Size) (Figures, error) {
	figures := Figures{}
	var errs []error
	for name, measure := range map[string]func(context.Context, Program, Size, Figures) error{
		"the index": inside, "few streams": ringing, "all streams": fanning, "the API server": followed,
	} {
		if err := measure(ctx, p, size, figures); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return figures, errors.Join(errs...)
}

// process is a running role.
type process struct {
	Program
	Answer  // the first one
	cmd     *exec.Cmd
	orders  *json.Encoder
	in      io.Closer
	answers *json.Decoder
}

func (p Program) start() (*process, error) {
	r := &process{Program: p, cmd: exec.Command(p.Path, p.Args...)}
	r.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.in, r.orders, r.answers = in, json.NewEncoder(in), json.NewDecoder(out)
	start := p.Start
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(r.cmd); err != nil {
		return nil, fmt.Errorf("start the controller: %w", err)
	}
	if err := r.answers.Decode(&r.Answer); err != nil {
		r.stop()
		return nil, fmt.Errorf("start the controller: %w", err)
	}
	return r, nil
}

// do gives an order and waits for the answer.
func (r *process) do(o Order) (Answer, error) {
	var a Answer
	err := r.orders.Encode(o)
	if err == nil {
		err = r.answers.Decode(&a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		err = fmt.Errorf("order %s: %w", o.Do, err)
	}
	return a, err
}

// used runs f and returns what the role used meanwhile.
func (r *process) used(f func() error) (time.Duration, error) {
	before, err := r.CPU(r.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := r.CPU(r.cmd.Process.Pid)
	return after - before, err
}

func (r *process) stop() {
	r.in.Close()
	kill := time.AfterFunc(within/6, func() { r.cmd.Process.Kill() })
	defer kill.Stop()
	r.cmd.Wait()
}

// inside is what needs no stream: C2 and C6.
func inside(_ context.Context, p Program, size Size, figures Figures) error {
	r, err := p.start()
	if err != nil {
		return err
	}
	defer r.stop()
	for name, order := range map[string]string{PodBytes: "pods", Growth: "growth"} {
		a, err := r.do(Order{Do: order, Size: size})
		if err != nil {
			return err
		}
		figures[name] = a.Value
	}
	return nil
}

// ringing is C4 and C7: few streams, in an index of the full size.
func ringing(ctx context.Context, p Program, size Size, figures Figures) error {
	r, err := p.start()
	if err != nil {
		return err
	}
	defer r.stop()
	for _, o := range []Order{{Do: "fill", Size: size}, {Do: "watched", Namespace: watched, Pods: few}} {
		if _, err := r.do(o); err != nil {
			return err
		}
	}
	f, err := launchFleet(ctx, r.Policy, few)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.watch(ctx, watched); err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+r.Policy, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	client := inboundpb.NewInboundServerPoliciesClient(conn)
	spec := &inboundpb.PortSpec{Workload: watched + ":" + watchedName(0), Port: port}
	var changes, pings []time.Duration
	for turn := range rings {
		from := time.Now()
		if _, err := client.GetPort(ctx, spec); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		pings = append(pings, time.Since(from))
		a, err := r.do(Order{Do: "change", Namespace: watched, Turn: turn})
		if err == nil {
			err = f.await(ctx, few)
		}
		if err != nil {
			return fmt.Errorf("change %d: %w", turn, err)
		}
		changes = append(changes, time.Duration(f.last.Load()-a.At))
	}
	figures[Ring] = float64(p99(changes)) / float64(p99(pings[1:])) // the first one connects
	a, err := r.do(Order{Do: "no-op", Namespace: watched})
	if err != nil {
		return err
	}
	figures[NoOpMicros] = a.Value
	// A change that follows brings one message to each, and the no-ops none before.
	if _, err = r.do(Order{Do: "change", Namespace: watched, Turn: rings}); err != nil {
		return err
	}
	if !poll(ctx, func() bool { return f.messages.Load() >= few }) {
		return errors.New("no message after updates that change nothing")
	}
	figures[NoOp] = float64(f.messages.Load() - few)
	return nil
}

func p99(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)-1)*99/100]
}

// fanning is C3, C5 and C9: one change at all streams, and the same bytes sent
// without a policy behind them.
func fanning(ctx context.Context, p Program, size Size, figures Figures) error {
	ours, err := fan(ctx, p, size, func(r *process) string { return r.Policy }, "change")
	if err != nil {
		return err
	}
	bare, err := fan(ctx, p, size, func(r *process) string { return r.Bare }, "bare")
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	figures[FanOut] = float64(ours.changing) / float64(bare.changing)
	figures[Restart] = float64(ours.connecting+ours.beginning) / float64(ours.changing)
	figures[Restream] = float64(ours.beginning) / float64(ours.changing)
	figures[BareRestart] = float64(bare.connecting+bare.beginning) / float64(bare.changing)
	figures[StreamBytes] = ours.perStream
	return nil
}

// fanned is what a fleet costs.
type fanned struct {
	// connecting is the role's processor time until all connections were greeted,
	// beginning that from then until all streams had their first message, changing
	// that of one change at all streams, the mean.
	connecting, beginning, changing time.Duration
	// perStream is the memory of one in bytes.
	perStream float64
}

func fan(ctx context.Context, p Program, size Size, address func(*process) string, order string) (got fanned, err error) {
	r, err := p.start()
	if err != nil {
		return got, err
	}
	defer r.stop()
	if _, err := r.do(Order{Do: "watched", Namespace: watched, Pods: size.Streams}); err != nil {
		return got, err
	}
	if order == "change" {
		if _, err := r.do(Order{Do: "fill", Size: size}); err != nil {
			return got, err
		}
	}
	before, err := r.do(Order{Do: "heap"})
	if err != nil {
		return got, err
	}
	var f *fleet
	got.connecting, err = r.used(func() (err error) {
		f, err = launchFleet(ctx, address(r), size.Streams)
		return err
	})
	if err != nil {
		return got, err
	}
	defer f.close()
	got.beginning, err = r.used(func() error { return f.watch(ctx, watched) })
	if err != nil {
		return got, err
	}
	after, err := r.do(Order{Do: "heap"})
	if err != nil {
		return got, err
	}
	got.perStream = (after.Value - before.Value) / float64(size.Streams)
	for turn := range fanOuts {
		spent, err := r.used(func() error {
			_, err := r.do(Order{Do: order, Namespace: watched, Turn: turn})
			if err == nil {
				err = f.await(ctx, size.Streams)
			}
			return err
		})
		if err != nil {
			return got, err
		}
		got.changing += spent / fanOuts
	}
	return got, nil
}

// cleanups ends what was started with it.
type cleanups []func()

// Cleanup is testing.TB's.
func (c *cleanups) Cleanup(f func()) { *c = append(*c, f) }

func (c *cleanups) run() {
	for _, f := range slices.Backward(*c) {
		f()
	}
}

// followed is C1 and C8: an index behind an API server.
func followed(_ context.Context, p Program, size Size, figures Figures) error {
	var ends cleanups
	defer ends.run()
	stub := apistub.New(&ends)
	put := func(object any) {
		path, o := asJSON(object)
		stub.Put(path, o)
	}
	objects(size, put)
	for _, o := range []any{pod(burstNamespace, watchedName(0), "app"), server(burstNamespace, "server", "app")} {
		put(o)
	}
	for i := range 5 {
		put(authorization(burstNamespace, fmt.Sprintf("authz-%d", i), "server", i))
	}
	var seconds [2]float64
	for i, order := range []string{"list", "follow"} {
		r, err := p.start()
		if err != nil {
			return err
		}
		defer r.stop()
		a, err := r.do(Order{Do: order, API: stub.Config().Host})
		if err != nil {
			return err
		}
		seconds[i] = a.Value
		if order == "list" {
			continue
		}
		if _, err := r.do(Order{Do: "burst"}); err != nil {
			return err
		}
		for i := range burst {
			put(burstOf(i))
		}
		if a, err = r.do(Order{Do: "transactions"}); err != nil {
			return err
		}
		figures[Published], figures[Burst] = max(a.Value, -a.Value), 0
		if a.Value <= 0 {
			figures[Burst] = 1
		}
	}
	figures[IndexBuild] = seconds[1]/seconds[0] - 1
	return nil
}

func asJSON(object any) (path string, out apistub.Object) {
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic(fmt.Sprintf("an object of our own: %v", err))
	}
	return map[string]string{"Pod": "/api/v1/pods", "Server": "/apis/policy.linkerd.io/v1beta3/servers",
		"ServerAuthorization": "/apis/policy.linkerd.io/v1beta1/serverauthorizations"}[out["kind"].(string)], out
}
