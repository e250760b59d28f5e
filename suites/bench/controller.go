package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/meshproof/meshproof/internal/proxytest"
	"github.com/meshproof/meshproof/suites/bench/control"
)

// roleControl is the policy controller's packages as a process.
const roleControl = "control"

// scenarioController is the id under which the controller's figures go, each as a
// contender.
const scenarioController = "controller"

func controlProgram(processors []int) (control.Program, error) {
	self, err := os.Executable()
	return control.Program{Path: self, Args: []string{roleControl}, CPU: func(pid int) (time.Duration, error) {
		used, err := usageOf(pid)
		return used.cpu, err
	}, Start: func(cmd *exec.Cmd) error { return on(processors, cmd.Start) }}, err
}

// controller takes the controller's figures in every round.
func (r *runner) controller(ctx context.Context, size control.Size, rounds []round) error {
	program, err := controlProgram(r.where.target)
	if err != nil {
		return err
	}
	for n, one := range rounds {
		figures, err := control.Measure(ctx, program, size)
		if inForce, errInForce := control.InForce(ctx, program, size, r.watching); errInForce != nil {
			err = errors.Join(err, fmt.Errorf("in force: %w", errInForce))
		} else {
			figures[control.InForceMillis] = inForce
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if figures[control.Burst] != 0 {
			err = errors.Join(err, errors.New("the policy after a burst is not that of all its objects"))
		}
		if err != nil {
			r.failures[scenarioController] = err
			fmt.Fprintf(r.talk, "  the controller: %v\n", err)
		}
		one[scenarioController] = map[string]sample{}
		for name, v := range figures {
			one[scenarioController][name] = sample{Figure: &v}
		}
		fmt.Fprintf(r.talk, "round %d of %d: the controller\n", n+1, len(rounds))
	}
	return nil
}

// watching starts a proxy that watches a controller.
func (r *runner) watching(ctx context.Context, controller string) (func(context.Context, string) error, func(), error) {
	app := netip.AddrPortFrom(netip.MustParseAddr(loopback), control.Port)
	proxy, err := r.world.plane.Start(ctx, proxytest.Options{Program: r.world.standalone, Apps: []netip.AddrPort{app}, Env: []string{
		"GOMAXPROCS=1", "LINKERD2_PROXY_POLICY_SVC_ADDR=" + controller, "LINKERD2_PROXY_POLICY_WORKLOAD=" + control.Workload}})
	if err != nil {
		return nil, nil, err
	}
	client := &http.Client{}
	await := func(ctx context.Context, hash string) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/policy?port=%d&hash=%s&timeout=10s", proxy.Observe, control.Port, hash), nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("policy %s is not in force: %s", hash, response.Status)
		}
		return nil
	}
	return await, func() { client.CloseIdleConnections(); proxy.Kill() }, nil
}
