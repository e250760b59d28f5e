package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/scenarios"
)

// nowhere is what ${outside} stands for where no client can be outside: a range
// for documentation, in which nobody has an address.
const nowhere = "198.51.100.0/24"

// Why claims are skipped for want of a capability.
const (
	lacksOutside = "it needs a client outside the cluster networks, and this cluster has no way to one (outside: none)"
	lacksNodes   = "it needs pods on two nodes, and this cluster has one (nodes: 1)"
)

// onHost says whether a client runs on its node's network: then it has an
// address outside, no proxy, and dials pods only, because what it sends to a
// Service is masqueraded.
func (e *run) onHost(c scenarios.Client) bool {
	return c.Network == scenarios.Outside && e.Capabilities.Outside.How == cluster.OutsideHosts
}

// outside is the prefix ${outside}, and the nodes' addresses that lie in it:
// the smallest one that covers every address outside, or where that would hold
// pods' addresses, the first network alone.
func outside(c cluster.Capabilities) (prefix netip.Prefix, whole bool) {
	if c.Outside.How == cluster.OutsideNone || len(c.Outside.Networks) == 0 {
		return netip.MustParsePrefix(nowhere), true
	}
	first := c.Outside.Networks[0].Masked()
	all := first
	for _, one := range c.Outside.Networks[1:] {
		for !(all.Contains(one.Addr()) && all.Bits() <= one.Bits()) && all.Addr().BitLen() == one.Addr().BitLen() && all.Bits() > 0 {
			all = netip.PrefixFrom(all.Addr(), all.Bits()-1).Masked()
		}
	}
	if all.Bits() == 0 || slices.ContainsFunc(c.ClusterNetworks, all.Overlaps) {
		return first, len(c.Outside.Networks) == 1
	}
	return all, true
}

// hostsOutside are the names of the nodes on which clients outside may run; nil
// means all.
func (e *run) hostsOutside(ctx context.Context) ([]string, error) {
	prefix, whole := outside(e.Capabilities)
	if whole {
		return nil, nil
	}
	nodes, err := e.kube.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	var names []string
	for _, node := range nodes.Items {
		for _, address := range node.Status.Addresses {
			if ip, err := netip.ParseAddr(address.Address); address.Type == corev1.NodeInternalIP && err == nil && prefix.Contains(ip) {
				names = append(names, node.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no node has an address in %s, which is said to be outside the cluster networks", prefix)
	}
	return names, nil
}

// lackedBy says what the cluster lacks for a client; empty when nothing.
func (s *scenarioRun) lackedBy(c scenarios.Client) string {
	switch {
	case c.Network == scenarios.Outside && s.e.Capabilities.Outside.How == cluster.OutsideNone:
		return lacksOutside
	case c.Apart != "" && s.e.Capabilities.Nodes < 2:
		return lacksNodes
	}
	return ""
}

// lackedByWorkload says what the cluster lacks for a workload.
func (s *scenarioRun) lackedByWorkload(w *scenarios.Workload) string {
	if w.Apart != "" && s.e.Capabilities.Nodes < 2 {
		return lacksNodes
	}
	return ""
}

// lackedByRequest says what the cluster lacks for a call.
func (s *scenarioRun) lackedByRequest(r *scenarios.Request) string {
	for _, c := range s.planned.Spec.Clients {
		if c.Name == r.Client {
			if why := s.lackedBy(c); why != "" {
				return why
			}
		}
	}
	return s.lackedByTarget(r.Target)
}

// lackedByTarget takes WORKLOAD:PORT or WORKLOAD.
func (s *scenarioRun) lackedByTarget(text string) string {
	name, _, _ := strings.Cut(text, ":")
	if w, _, ok := s.planned.Component(name); ok {
		return s.lackedByWorkload(w)
	}
	return "" // the parser has refused it
}

// lackedByAction says why an action is left out.
func (s *scenarioRun) lackedByAction(a *scenarios.Action) string {
	for _, ref := range []*scenarios.WorkloadRef{a.Restart, a.Deploy, a.Await, a.Remove} {
		if ref != nil {
			return s.lackedByWorkload(s.workload(ref.Workload))
		}
	}
	switch {
	case a.Start != nil:
		return s.lackedByRequest(&a.Start.Request)
	case a.Hold != nil:
		return s.lackedByRequest(&a.Hold.Request)
	case a.Stop != nil:
		return s.lackedByStream(a.Stop.Stream)
	case a.Fault != nil:
		return s.lackedByFault(a.Fault)
	}
	return ""
}

// lackedByStream is about a stream or held connection of an earlier action.
func (s *scenarioRun) lackedByStream(name string) string {
	for i := range s.planned.Spec.Traffic {
		if stream := &s.planned.Spec.Traffic[i]; stream.Name == name {
			return s.lackedByRequest(&stream.Request)
		}
	}
	for _, step := range s.planned.Spec.Steps {
		for i := range step.Actions {
			if a := &step.Actions[i]; a.Start != nil && a.Start.Name == name || a.Hold != nil && a.Hold.Name == name {
				return s.lackedByAction(a)
			}
		}
	}
	return ""
}

// skipped says why a claim is not judged: because the plan says so, or for
// want of a capability. Empty means that it is.
func (s *scenarioRun) skipped(c *scenarios.PlannedClaim) string {
	claim := c.Claim
	if c.Skip == "" {
		if why := s.lackedByFaults(); why != "" {
			return why
		}
	}
	switch {
	case c.Skip != "":
		return c.Skip
	case c.Call != nil:
		return s.lackedByRequest(&c.Call.Request)
	case claim.Probe != nil:
		return s.lackedByTarget(claim.Probe.Workload)
	case claim.Pods != nil:
		return s.lackedByTarget(claim.Pods.Workload)
	case claim.Metric != nil:
		return s.lackedByTarget(claim.Metric.Workload)
	case claim.Rate != nil:
		for i := range claim.Rate.Calls {
			if why := s.lackedByRequest(&claim.Rate.Calls[i].Request); why != "" {
				return why
			}
		}
	case claim.Log != nil:
		return s.lackedByTarget(claim.Log.Workload)
	case claim.Authz != nil:
		return s.lackedByTarget(claim.Authz.Workload)
	case claim.Policy != nil:
		return s.lackedByTarget(claim.Policy.Target)
	case claim.Held != nil:
		return s.lackedByStream(claim.Held.Connection)
	case claim.Traffic != nil:
		return s.lackedByStream(claim.Traffic.Stream)
	case claim.Window != nil:
		return s.lackedByStream(claim.Window.Stream)
	case claim.Command != nil && claim.Command.Workload != "":
		return s.lackedByTarget(claim.Command.Workload)
	}
	return ""
}
