package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/scenarios"
)

// Names and ports of the control plane that faults are made at.
const (
	policyContainer = "policy"
	policyGRPC      = 8090
	apiServerPort   = 443
	identityDeploy  = "linkerd-identity"
	injectorDeploy  = "linkerd-proxy-injector"
	validatorName   = "linkerd-policy-validator"
	componentLabel  = "linkerd.io/control-plane-component"
)

// faultKind is how a fault is made.
type faultKind struct {
	// begin breaks, and notes with onLift how that is undone; what it has begun
	// when it fails is lifted all the same.
	begin func(context.Context, *scenarioRun, *faultRun) error
	// below says that it needs cluster.Faults.
	below bool
	// never is why it can be made on no cluster that there is.
	never string
}

// faultKinds has a row for every kind; a test keeps it so.
var faultKinds = map[scenarios.FaultKind]faultKind{
	scenarios.ControllerKilled:       {begin: killController},
	scenarios.ControllerPaused:       {begin: controllers(syscall.SIGSTOP, syscall.SIGCONT), below: true},
	scenarios.ControllerRestarted:    {begin: controllers(syscall.SIGKILL, 0), below: true},
	scenarios.ControllersTwo:         {begin: secondController},
	scenarios.PolicyStreamCut:        {begin: policyStream(cluster.Refused), below: true},
	scenarios.PolicyStreamBlackholed: {begin: policyStream(cluster.Swallowed), below: true},
	scenarios.PolicyStreamDelayed:    {begin: policyStream(cluster.Delayed), below: true},
	scenarios.PolicyStreamFlapping:   {begin: policyStream(cluster.Flapping), below: true},
	scenarios.APIServerSlow:          {begin: apiServer(cluster.Delayed), below: true},
	scenarios.APIServerAway:          {begin: apiServer(cluster.Refused), below: true},
	scenarios.ProxyKilled:            {begin: inPods(proxyContainer, syscall.SIGKILL, 0), below: true},
	scenarios.ProxyPaused:            {begin: inPods(proxyContainer, syscall.SIGSTOP, syscall.SIGCONT), below: true},
	scenarios.ProxyEnded:             {begin: inPods(proxyContainer, syscall.SIGTERM, 0), below: true},
	scenarios.AppKilled:              {begin: inPods("", syscall.SIGKILL, 0), below: true},
	scenarios.AppPaused:              {begin: inPods("", syscall.SIGSTOP, syscall.SIGCONT), below: true},
	scenarios.IdentityDown:           {begin: away(identityDeploy)},
	scenarios.InjectorDown:           {begin: away(injectorDeploy)},
	scenarios.AdmissionDown:          {begin: noAdmission},
	scenarios.CertificateRotated:     {begin: shortCertificates},
	scenarios.CertificateExpired:     {begin: expire},
	scenarios.TrustAnchorReplaced:    {never: "the mesh reads its trust anchors when it starts, so that another one means another mesh (trust anchors: one)"},
	scenarios.PacketsLost:            {begin: losePackets, below: true},
	scenarios.ProxyShortOfFiles:      {begin: shortOfFiles, below: true},
	scenarios.ClockShifted:           {never: "no cluster shifts the wall clock of single processes: time namespaces shift the monotonic ones only (clocks: one)"},
	scenarios.NodeLost:               {never: "no cluster here takes a node away under its pods (node loss: none)"},
}

// down says whether proxies that a fault concerns, or what is behind them, may
// not answer while it lasts.
func down(kind scenarios.FaultKind) bool {
	switch kind {
	case scenarios.ProxyKilled, scenarios.ProxyPaused, scenarios.ProxyEnded, scenarios.AppKilled, scenarios.AppPaused, scenarios.NodeLost,
		scenarios.CertificateExpired, scenarios.ProxyShortOfFiles:
		return true
	}
	return false
}

// killController kills the controllers where their processes can be reached, and
// keeps them away by taking their Deployment to nothing.
func killController(ctx context.Context, s *scenarioRun, f *faultRun) error {
	if s.e.Capabilities.Faults {
		if err := controllers(syscall.SIGKILL, 0)(ctx, s, f); err != nil {
			return err
		}
	}
	return away(policyService)(ctx, s, f)
}

// controllers sends a signal to the policy controllers, and another one when the
// fault is lifted; 0 is none.
func controllers(begin, lift syscall.Signal) func(context.Context, *scenarioRun, *faultRun) error {
	return func(ctx context.Context, s *scenarioRun, f *faultRun) error {
		pods := s.e.controllers()
		if len(pods) == 0 {
			return fmt.Errorf("no pod of %s serves policy: %w", policyService, errNoPod)
		}
		return s.signalAll(ctx, f, pods, policyContainer, begin, lift)
	}
}

// inPods sends a signal to a container of the fault's pods; an empty name is the
// application's.
func inPods(container string, begin, lift syscall.Signal) func(context.Context, *scenarioRun, *faultRun) error {
	return func(ctx context.Context, s *scenarioRun, f *faultRun) error {
		return s.signalAll(ctx, f, s.podsOfFault(f), container, begin, lift)
	}
}

// signalAll signals a container of each pod. What ends by it is back once it was
// started again, so that nobody takes the old process for the new one.
func (s *scenarioRun) signalAll(ctx context.Context, f *faultRun, pods []*corev1.Pod, container string, begin, lift syscall.Signal) error {
	before := map[string]int32{}
	for _, pod := range pods {
		name := container
		if name == "" {
			name = application(pod)
		}
		if lift != 0 {
			f.onLift(func(ctx context.Context) error {
				return unlessGone(s.e.Faults.Signal(ctx, podRef(pod), name, lift))
			})
		}
		before[nameOf(pod).String()] = startedAgain(pod, name)
		if err := s.e.Faults.Signal(ctx, podRef(pod), name, begin); err != nil {
			return err
		}
	}
	if lift != 0 {
		return nil
	}
	f.again = func() (bool, string) {
		for _, pod := range pods {
			name := container
			if name == "" {
				name = application(pod)
			}
			now, there := s.e.pods.get(nameOf(pod))
			if there && now.UID == pod.UID && startedAgain(now, name) <= before[nameOf(pod).String()] {
				return false, fmt.Sprintf("container %s of pod %s was not started again", name, nameOf(pod))
			}
		}
		return true, ""
	}
	return nil
}

// application is the container of a pod that is not the mesh's.
func application(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if c.Name != proxyContainer {
			return c.Name
		}
	}
	return ""
}

// startedAgain is how often a container was started again.
func startedAgain(pod *corev1.Pod, container string) int32 {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range list {
			if status.Name == container {
				return status.RestartCount
			}
		}
	}
	return 0
}

// unlessGone takes it for lifted when there is nothing any more.
func unlessGone(err error) error {
	if errors.Is(err, cluster.ErrNotFound) {
		return nil
	}
	return err
}

// disturb disturbs connections of pods, until the fault is lifted.
func (s *scenarioRun) disturb(ctx context.Context, f *faultRun, pods []*corev1.Pod, port uint16, how cluster.How) error {
	d := cluster.Disturbance{Port: port, How: how}
	switch how {
	case cluster.Delayed:
		d.Delay = f.Slowness()
	case cluster.Flapping:
		d.Every = f.Every()
	case cluster.Lossy:
		d.Percent = f.Loss()
	}
	for _, pod := range pods {
		f.onLift(func(ctx context.Context) error { return s.e.Faults.Calm(ctx, podRef(pod)) })
		if err := s.e.Faults.Disturb(ctx, podRef(pod), d); err != nil {
			return err
		}
	}
	return nil
}

// policyStream disturbs what the fault's pods have with their controller.
func policyStream(how cluster.How) func(context.Context, *scenarioRun, *faultRun) error {
	return func(ctx context.Context, s *scenarioRun, f *faultRun) error {
		return s.disturb(ctx, f, s.podsOfFault(f), policyGRPC, how)
	}
}

// apiServer disturbs what the controllers have with the API server.
func apiServer(how cluster.How) func(context.Context, *scenarioRun, *faultRun) error {
	return func(ctx context.Context, s *scenarioRun, f *faultRun) error {
		return s.disturb(ctx, f, s.e.controllers(), apiServerPort, how)
	}
}

// away takes a Deployment of the control plane to nothing: at once, as by a node
// that is gone, not in order.
func away(deployment string) func(context.Context, *scenarioRun, *faultRun) error {
	return func(ctx context.Context, s *scenarioRun, f *faultRun) error {
		before, err := s.e.setReplicas(ctx, meshNamespace, deployment, 0)
		if err != nil {
			return err
		}
		f.onLift(func(ctx context.Context) error {
			_, err := s.e.setReplicas(ctx, meshNamespace, deployment, before)
			return err
		})
		now := int64(0)
		match := map[string]string{componentLabel: componentOf(deployment)}
		for _, pod := range s.e.pods.list(meshNamespace, match) {
			err := s.e.kube.typed.CoreV1().Pods(meshNamespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("take pod %s away: %w", pod.Name, err)
			}
			s.e.forward.drop(nameOf(pod))
		}
		return s.e.pods.until(ctx, settleBudget, func() (bool, string) {
			left := len(s.e.pods.list(meshNamespace, match)) + s.e.pods.leaving(meshNamespace, match)
			return left == 0, fmt.Sprintf("%s still has %d pods", deployment, left)
		})
	}
}

// componentOf is the label of a Deployment's pods.
func componentOf(deployment string) string { return deployment[len("linkerd-"):] }

// secondController runs another policy controller beside the first.
func secondController(ctx context.Context, s *scenarioRun, f *faultRun) error {
	before, err := s.e.setReplicas(ctx, meshNamespace, policyService, int32(len(s.e.controllers())+1))
	if err != nil {
		return err
	}
	f.onLift(func(ctx context.Context) error {
		_, err := s.e.setReplicas(ctx, meshNamespace, policyService, before)
		return err
	})
	return s.e.awaitRollout(ctx, meshNamespace, nil)
}

// losePackets loses a part of what the fault's pods send and receive.
func losePackets(ctx context.Context, s *scenarioRun, f *faultRun) error {
	return s.disturb(ctx, f, s.podsOfFault(f), 0, cluster.Lossy)
}

// spareFiles is how many descriptors a proxy that is short of them can still
// open: enough for a connection or two, which take two each.
const spareFiles = 4

// shortOfFiles lets the proxies of the fault's pods open hardly anything more.
func shortOfFiles(ctx context.Context, s *scenarioRun, f *faultRun) error {
	for _, pod := range s.podsOfFault(f) {
		f.onLift(func(ctx context.Context) error {
			return unlessGone(s.e.Faults.Limit(ctx, podRef(pod), proxyContainer, -1))
		})
		if err := s.e.Faults.Limit(ctx, podRef(pod), proxyContainer, spareFiles); err != nil {
			return err
		}
	}
	return nil
}
