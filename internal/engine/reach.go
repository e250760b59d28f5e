package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// dialTimeout is for one attempt to reach a Service. A first packet that a
	// node has not yet rules for is lost with the connection, so that another
	// connection is the only remedy.
	dialTimeout = 250 * time.Millisecond
	// dialsInARow must succeed: a Service may have several pods.
	dialsInARow = 2
)

// reach is a client pod and a component that it calls through a Service.
type reach struct {
	client    string
	component string
}

// reaches are the pairs of which a claim or a stream says that the one calls
// the other through its Service. Clients with a proxy are not among them: theirs
// dials pods.
func (s *scenarioRun) reaches(of func(*scenarios.Workload) bool) []reach {
	found := map[reach]bool{}
	add := func(r *scenarios.Request) {
		from, ok := s.clients[r.Client]
		target, err := s.planned.Target(r.Target, r.Protocol)
		if !ok || err != nil || from.proxied() || from.onHost || !throughService(target, r.Via) || !of(target.Workload) {
			return
		}
		found[reach{r.Client, target.Component}] = true
	}
	for i := range s.planned.Spec.Traffic {
		add(&s.planned.Spec.Traffic[i].Request)
	}
	for _, step := range s.planned.Steps {
		for i := range step.Actions {
			if a := &step.Actions[i]; a.Start != nil {
				add(&a.Start.Request)
			} else if a.Hold != nil {
				add(&a.Hold.Request)
			}
		}
		for _, claim := range step.Claims {
			if claim.Call != nil {
				add(&claim.Call.Request)
			}
		}
	}
	return slices.Collect(maps.Keys(found))
}

// reachable waits until the Services of ready workloads lead from each client's
// node to their pods: nodes learn of endpoints some time after the API server.
func (s *scenarioRun) reachable(ctx context.Context, of func(*scenarios.Workload) bool) error {
	group := newGroup()
	done := map[string]bool{} // clients may share a pod
	for _, one := range s.reaches(of) {
		from := s.clients[one.client]
		key := from.name.String() + " " + one.component
		w, component, ok := s.planned.Component(one.component)
		if !ok || done[key] || len(component.Ports) == 0 || !s.allReady(one.component, w) {
			continue
		}
		done[key] = true
		group.do(func() error {
			namespace := s.space(w.Namespace)
			service, err := s.service(ctx, namespace, component.Service)
			if err != nil {
				return err
			}
			if err := eventually(ctx, settleBudget, func() error { return s.listed(ctx, namespace, component.Service, one.component) }); err != nil {
				return err
			}
			address := hostPort(service.Spec.ClusterIP, int(service.Spec.Ports[0].Port))
			return eventually(ctx, settleBudget, func() error {
				for range dialsInARow {
					out, err := from.agent.Call(ctx, clients.Request{Protocol: clients.Dial, Address: address, Timeout: dialTimeout})
					if err != nil {
						return err
					}
					if out.Kind != clients.Allowed {
						return fmt.Errorf("Service %s/%s does not lead to its pods from %s: %s", namespace, component.Service, from.name, out.Message)
					}
				}
				return nil
			})
		})
	}
	return group.wait()
}

// allReady says whether every pod of a component is.
func (s *scenarioRun) allReady(component string, w *scenarios.Workload) bool {
	pods := s.componentPods(component)
	for _, pod := range pods {
		if !ready(pod) {
			return false
		}
	}
	return len(pods) >= replicasOf(w)
}

// listed says whether a Service's endpoints are the component's pods.
func (s *scenarioRun) listed(ctx context.Context, namespace, service, component string) error {
	list, err := s.e.kube.typed.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return fmt.Errorf("read the endpoints of Service %s/%s: %w", namespace, service, err)
	}
	have := map[types.UID]bool{}
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.TargetRef != nil && (endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready) {
				have[endpoint.TargetRef.UID] = true
			}
		}
	}
	for _, pod := range s.componentPods(component) {
		if !have[pod.UID] {
			return fmt.Errorf("Service %s/%s has no endpoint for pod %s", namespace, service, pod.Name)
		}
		delete(have, pod.UID)
	}
	if len(have) > 0 {
		return errors.New("Service " + namespace + "/" + service + " has endpoints that are gone")
	}
	return nil
}
