package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/scenarios"
)

// endpoints are the meshed, ready pods and ports that the scenario's claims
// depend on, those only for which keep says yes.
func (s *scenarioRun) endpoints(keep func(endpoint) bool) []endpoint {
	var all []endpoint
	for component, ports := range s.interest {
		for _, pod := range s.componentPods(component) {
			if !meshed(pod) || !ready(pod) {
				continue
			}
			for port := range ports {
				if e := (endpoint{nameOf(pod), port}); keep == nil || keep(e) {
					all = append(all, e)
				}
			}
		}
	}
	return all
}

// settle waits until the writes of one action are observed, or in force at
// every endpoint that they can concern.
func (s *scenarioRun) settle(ctx context.Context, writes []write, wait scenarios.Wait) error {
	for _, w := range writes {
		if w.kind == "Deployment" && w.object != nil {
			if err := s.askedFor(ctx, w.namespace, []*unstructured.Unstructured{w.object}); err != nil {
				return err
			}
		}
	}
	if err := s.recorder.wrote(ctx, writes, wait); err != nil {
		return err
	}
	if wait == scenarios.WaitNone {
		s.owe(writes)
		return nil
	}
	defer s.lane.In(walltime.InForce)()
	least := versions{}
	var accepted time.Time
	namespaces := map[string]bool{}
	concerned := false
	for _, w := range writes {
		if !w.policy() && w.kind != "Pod" && w.kind != "Namespace" {
			continue
		}
		concerned = true
		least = least.with(w)
		accepted = w.accepted
		namespaces[w.namespace] = true
		if w.kind == "Namespace" {
			namespaces[w.name] = true
		}
	}
	if !concerned {
		return nil
	}
	if wait == scenarios.WaitObserved {
		err := s.e.observedBy(ctx, least)
		if err == nil {
			s.recorder.observed(time.Now())
		}
		return err
	}
	if err := s.accepted(ctx, writes, least); err != nil {
		return err
	}
	s.recorder.accepted(time.Now())
	return s.inForce(ctx, s.endpoints(func(e endpoint) bool { return namespaces[e.pod.Namespace] }), least, accepted)
}

// observedBy waits until every controller has observed the versions.
func (e *run) observedBy(ctx context.Context, least versions) error {
	group := newGroup()
	for _, controller := range e.controllers() {
		group.do(func() error {
			var body []byte
			return e.get(ctx, nameOf(controller), policyPort, "/observed", least.query(map[string][]string{}), &body)
		})
	}
	return group.wait()
}

// inForce waits until every endpoint enforces what the controller serves after
// it has observed the versions. When the write had an effect somewhere, the time
// since it was accepted becomes part of the figures.
func (s *scenarioRun) inForce(ctx context.Context, endpoints []endpoint, least versions, accepted time.Time) error {
	defer s.lane.In(walltime.InForce)()
	s.recorder.owed(least)
	if len(endpoints) == 0 {
		err := s.e.observedBy(ctx, least)
		if err == nil {
			s.recorder.changed(ctx)
		}
		return err
	}
	changed := false
	group := newGroup()
	for _, one := range endpoints {
		group.do(func() error {
			served, err := s.e.askController(ctx, one.pod, one.port, least)
			if errors.Is(err, errUnknownPod) {
				return nil // gone since the pods were listed
			}
			if err != nil {
				return err
			}
			s.recorder.observed(time.Now())
			if _, err := s.e.awaitProxy(ctx, one.pod, one.port, served.Hash); err != nil {
				return fmt.Errorf("the policy of %s (%s) is not in force on port %d: %w", one.pod, served.server(), one.port, err)
			}
			s.recorder.inForce(time.Now(), one, served.Hash)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.hashes[one] != served.Hash {
				changed = changed || s.hashes[one] != ""
				s.hashes[one] = served.Hash
			}
			return nil
		})
	}
	if err := group.wait(); err != nil {
		return err
	}
	s.recorder.changed(ctx)
	if changed && !accepted.IsZero() {
		s.e.figures.wrote(time.Since(accepted), s.planned.Spec.Serial)
	}
	return nil
}

// allTold waits until the controller tells every proxy of the run of changes, for as
// long as a proxy may wait to connect again. Who has broken something has waited for
// its own proxies only, and the next scenario counts on others.
func (e *run) allTold(ctx context.Context) error {
	return eventually(ctx, reconnectCap+connectBudget, func() error {
		group := newGroup()
		for _, pod := range e.pods.list(corev1.NamespaceAll, map[string]string{runLabel: e.ID}) {
			if !meshed(pod) || !ready(pod) {
				continue
			}
			group.do(func() error {
				ports, err := e.policies(ctx, nameOf(pod))
				for port, policy := range ports {
					if policy.Watched != nil && !*policy.Watched {
						return fmt.Errorf("the proxy of %s has no stream that tells it of port %s: %w", nameOf(pod), port, errBudget)
					}
				}
				return err
			})
		}
		return group.wait()
	})
}

// told returns an error unless the controller tells the proxy of every endpoint of
// changes, as far as proxies say. After the controller was away the policy of
// before may well be in force while a proxy still waits to connect again.
func (s *scenarioRun) told(ctx context.Context, endpoints []endpoint) error {
	group := newGroup()
	for _, one := range endpoints {
		group.do(func() error {
			policy, err := s.e.awaitProxy(ctx, one.pod, one.port, "")
			switch {
			case err != nil:
				return err
			case policy.Watched != nil && !*policy.Watched:
				return fmt.Errorf("the proxy of %s has no stream that tells it of port %d: %w", one.pod, one.port, errBudget)
			}
			return nil
		})
	}
	return group.wait()
}
