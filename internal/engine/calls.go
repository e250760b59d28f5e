package engine

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// callsAtOnce bounds the calls that one client makes at a time: enough to be
// quick, few enough not to queue in a proxy.
const callsAtOnce = 16

// callJudge is a claim about a call on its way to a verdict.
type callJudge struct {
	s        *scenarioRun
	claim    *scenarios.PlannedClaim
	from     client
	target   scenarios.Target
	requests []clients.Request
	outcomes []clients.Outcome
	verdict  verdict
	// oracle judges in the world of the step; worldErr is why it cannot.
	oracle   oracle.Oracle
	worldErr error
	// logged says whether the call was logged as audited, where the claim is about
	// that and it can be told.
	logged *bool
	// rulings are what the rules say of each outcome, as far as they were asked.
	rulings []*ruling
}

// witnessLog is what was recorded at one target pod while calls were made.
type witnessLog struct {
	pod        types.NamespacedName
	running    *corev1.Pod
	meshed     bool
	echo       bool
	sinceProxy int64
	sinceEcho  int64
	decisions  decisions
	deliveries deliveries
	// logged is how long the proxy's log was before the calls, where anybody asks.
	logged int
	// counted are the proxy's metrics before the calls and after them.
	counted [2][]byte
	// clock is that of the pod's node.
	clock clock
	err   error
}

// judgeCalls makes all calls, those of each client together, and holds every
// outcome against the rules and against what the target's proxy and application
// recorded.
func (s *scenarioRun) judgeCalls(ctx context.Context, batch []*callJudge, base *baseline) {
	if len(batch) == 0 {
		return
	}
	var ready []*callJudge
	for _, one := range batch {
		call := one.claim.Call
		one.s = s
		one.target, _ = s.planned.Target(call.Target, call.Protocol)
		for range max(call.Repeat, 1) {
			request, from, err := s.request(ctx, &call.Request, uuid.NewString())
			if err != nil {
				one.verdict = unsure("the call was not made: %v", err)
				break
			}
			one.from = from
			one.requests = append(one.requests, request)
		}
		if len(one.requests) == max(call.Repeat, 1) {
			ready = append(ready, one)
		}
	}
	logs := s.logsOf(ready)
	var world sync.WaitGroup
	var recorded *history.World
	world.Go(func() { recorded = s.lookUp(ctx, ready, logs, base) })
	s.openLogs(ctx, ready, logs)
	world.Wait()
	s.makeCalls(ctx, ready)
	s.readLogs(ctx, logs)
	s.lookForAudit(ctx, ready, logs)
	for _, one := range ready {
		if one.verdict.outcome == "" {
			one.verdict = one.decide(logs[one.target.Component])
		}
	}
	s.compareCounters(ready, logs, base)
	for _, one := range ready {
		for _, said := range one.rulings {
			said.question.Early = one.claim.Claim.Within > 0 && one.verdict.outcome != result.Passed
			if err := s.e.history.Add(recorded, said.question); err != nil && one.verdict.outcome == result.Passed {
				one.verdict = unsure("%v", err)
			}
		}
	}
}

// lookUp reads the world in which the calls of a batch are judged.
func (s *scenarioRun) lookUp(ctx context.Context, batch []*callJudge, logs map[string][]*witnessLog, base *baseline) *history.World {
	var recorded *history.World
	for _, one := range batch {
		pod := targetPod(logs[one.target.Component], nil, nil)
		if pod == nil || one.claim.Claim.NoOracle != "" {
			continue
		}
		recorded, one.oracle, one.worldErr = base.world.of(ctx, s, pod)
	}
	return recorded
}

// logsOf are the records that there are at each target, not yet read.
func (s *scenarioRun) logsOf(batch []*callJudge) map[string][]*witnessLog {
	logs := map[string][]*witnessLog{}
	for _, one := range batch {
		if _, done := logs[one.target.Component]; done {
			continue
		}
		logs[one.target.Component] = []*witnessLog{}
		for _, pod := range s.componentPods(one.target.Component) {
			logs[one.target.Component] = append(logs[one.target.Component],
				&witnessLog{pod: nameOf(pod), running: pod, meshed: meshed(pod), echo: one.target.Workload.Kind == scenarios.Echo || tells(pod)})
		}
	}
	return logs
}

// openLogs notes how far the records have come.
func (s *scenarioRun) openLogs(ctx context.Context, batch []*callJudge, logs map[string][]*witnessLog) {
	s.eachLog(logs, func(log *witnessLog) {
		if log.meshed {
			log.clock = readClock(func() (time.Time, error) {
				var page decisions
				page, log.err = s.e.decisionsSince(ctx, log.pod, math.MaxInt64, 0)
				log.sinceProxy = page.Last
				return page.Now, log.err
			})
		}
		if log.meshed && log.err == nil {
			log.counted[0], log.err = s.e.metrics(ctx, log.pod)
		}
		if log.meshed && log.err == nil && audits(batch) {
			var text []byte
			text, log.err = s.e.logged(ctx, logOf{pod: log.pod, container: proxyContainer})
			log.logged = len(text)
		}
		if log.echo && log.err == nil {
			var page deliveries
			page, log.err = s.e.deliveriesSince(ctx, log.pod, 1<<62)
			log.sinceEcho = page.Last
		}
	})
}

func (s *scenarioRun) readLogs(ctx context.Context, logs map[string][]*witnessLog) {
	s.eachLog(logs, func(log *witnessLog) {
		if log.err != nil {
			return
		}
		if log.meshed {
			log.decisions, log.err = s.e.decisionsSince(ctx, log.pod, log.sinceProxy, 0)
		}
		if log.meshed && log.err == nil {
			log.counted[1], log.err = s.e.metrics(ctx, log.pod)
		}
		if log.echo && log.err == nil {
			log.deliveries, log.err = s.e.deliveriesSince(ctx, log.pod, log.sinceEcho)
		}
	})
}

func (s *scenarioRun) eachLog(logs map[string][]*witnessLog, f func(*witnessLog)) {
	var group sync.WaitGroup
	for _, list := range logs {
		for _, log := range list {
			group.Go(func() { f(log) })
		}
	}
	group.Wait()
}

// makeCalls sends each client its calls in one batch.
func (s *scenarioRun) makeCalls(ctx context.Context, batch []*callJudge) {
	byPod := map[types.NamespacedName][]*callJudge{}
	for _, one := range batch {
		byPod[one.from.name] = append(byPod[one.from.name], one)
	}
	ctx, cancel := context.WithTimeout(ctx, agentBudget)
	defer cancel()
	var group sync.WaitGroup
	for _, mine := range byPod {
		group.Go(func() {
			var requests []clients.Request
			for _, one := range mine {
				requests = append(requests, one.requests...)
			}
			outcomes, err := mine[0].from.agent.Calls(ctx, requests, callsAtOnce)
			if err == nil && len(outcomes) != len(requests) {
				err = fmt.Errorf("%d answers to %d requests", len(outcomes), len(requests))
			}
			for _, one := range mine {
				if err != nil {
					one.verdict = unsure("the call was not made: %v", err)
					continue
				}
				one.outcomes, outcomes = outcomes[:len(one.requests)], outcomes[len(one.requests):]
			}
		})
	}
	group.Wait()
}
