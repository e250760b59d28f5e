package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/internal/proxytest"
)

// ours is the proxy of this tree.
type ours struct {
	*proxytest.Proxy
	sinks []netip.AddrPort
	// profiles is where it serves profiles, "" for nowhere.
	profiles string
}

func startOurs(ctx context.Context, w *world, _ string) (instance, error) {
	return startProfiled(ctx, w, "")
}

// startProfiled starts a proxy that serves its profiles at the address.
func startProfiled(ctx context.Context, w *world, profiles string) (instance, error) {
	o := ours{profiles: profiles}
	for _, protocol := range protocols {
		o.sinks = append(o.sinks, netip.MustParseAddrPort(w.sink[protocol]))
	}
	var err error
	if o.Proxy, err = w.plane.Start(ctx, proxytest.Options{Program: w.standalone, Apps: o.sinks, Env: []string{"GOMAXPROCS=1", "MESHPROOF_STANDALONE_PPROF=" + profiles}}); err != nil {
		return nil, err
	}
	for _, protocol := range protocols {
		if err := o.apply(ctx, protocol, enforced()); err != nil {
			o.stop()
			return nil, err
		}
	}
	return o, nil
}

// address is the same with and without TLS: it is found out.
func (o ours) address(s service) string {
	if at := slices.Index(protocols, s.protocol); at >= 0 {
		return o.Pairs[at].String()
	}
	return ""
}

func (o ours) pid() int { return o.PID() }
func (o ours) stop()    { o.Kill() }

func (o ours) apply(ctx context.Context, protocol load.Protocol, policy *pb.Server) error {
	return o.Apply(ctx, o.sinks[slices.Index(protocols, protocol)].Port(), policy)
}

// allocations reads the proxy's own page of metrics.
func (o ours) allocations(ctx context.Context) (float64, error) {
	page, err := o.Metrics(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the proxy's metrics: %w", err)
	}
	const name = "\ngo_memstats_mallocs_total "
	_, rest, _ := strings.Cut(string(page), name)
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return 0, fmt.Errorf("read the proxy's allocations: %w", err)
	}
	return n, nil
}

// heap is the live heap with the stacks, in bytes, after a collection.
func (o ours) heap(ctx context.Context) (float64, error) {
	text, err := o.profile(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, name := range []string{"\n# HeapAlloc = ", "\n# Stack = "} {
		_, rest, found := strings.Cut(string(text), name)
		value, _, _ := strings.Cut(rest, "\n")
		value, _, _ = strings.Cut(value, " /") // what is in use / what was obtained for it
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !found {
			return 0, fmt.Errorf("read the proxy's heap: no%s", strings.TrimSpace(name))
		}
		sum += n
	}
	return sum, nil
}

// profile reads one of the proxy's own profiles.
func (o ours) profile(ctx context.Context, name string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.profiles+"/debug/pprof/"+name, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("profile the proxy: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("profile the proxy: %s: %s", response.Status, body)
	}
	return body, err
}

// clientName is the identity of the load's client.
const clientName = "load.bench.serviceaccount.identity.linkerd.cluster.local"

// neighbours is the network that the load comes from.
const neighbours = proxytest.Neighbour + "/32"

// enforced is a policy as an application would have one: meshed clients by
// identity, and for what has none a network.
func enforced() *pb.Server {
	return proxytest.Server(proxytest.Detect(proxytest.DetectWithin),
		proxytest.Identities("other", "other.bench.serviceaccount.identity.linkerd.cluster.local"),
		proxytest.Identities("meshed", clientName),
		proxytest.Anyone("unmeshed", neighbours))
}

// unenforced lets everybody in.
func unenforced() *pb.Server { return proxytest.Everybody() }

// authorizations is a policy with so many, of which the last one permits the
// client; the others name one identity or one network each.
func authorizations(n int) *pb.Server {
	authzs := make([]*pb.Authz, 0, n)
	for i := range n - 1 {
		name := fmt.Sprintf("no-%d", i)
		if i%2 == 0 {
			authzs = append(authzs, proxytest.Identities(name, fmt.Sprintf("client-%d.bench.serviceaccount.identity.linkerd.cluster.local", i)))
			continue
		}
		authzs = append(authzs, proxytest.Anyone(name, fmt.Sprintf("10.%d.%d.0/24", i>>8&255, i&255)))
	}
	return proxytest.Server(proxytest.Detect(proxytest.DetectWithin), append(authzs, proxytest.Anyone("unmeshed", neighbours))...)
}
