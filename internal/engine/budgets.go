package engine

import "time"

// The budgets of every wait. They bound how long a run can hang on something
// that does not happen; none is a measure of the product except inForceBudget.
const (
	// portForwardBudget is for opening a port-forward. The kubelet needs
	// milliseconds; a loaded machine may need seconds.
	portForwardBudget = 10 * time.Second
	// podsBudget is from asking for pods to their readiness, many at once on two
	// cores. A pod that needs longer is named with its reason.
	podsBudget = 75 * time.Second
	// imageBudget is how long an image that cannot be had is waited for: a second
	// attempt of the kubelet, which comes after 10 s, is among it.
	imageBudget = 15 * time.Second
	// inForceBudget is from an accepted write to its enforcement. The target is
	// 200 ms; a mesh that needs longer than this is found to be wrong.
	inForceBudget = 5 * time.Second
	// agentBudget is for a batch of calls, above the calls' own time-outs.
	agentBudget = 40 * time.Second
	// callTimeout is for a call that says nothing: above the 10 s of protocol
	// detection, so that a proxy that gives up is seen to close.
	callTimeout = 12 * time.Second
	// installBudget is for the control plane after a change of its settings.
	installBudget = 2 * time.Minute
	// settleBudget is for things that Kubernetes does in its own time: a Service
	// that gets its endpoints, a Deployment that replaces its pods.
	settleBudget = 30 * time.Second
	// probeBudget is for what the kubelet makes of probes, when the claim names
	// no time: several periods of a second, and the end of a container and a new
	// start where that is what follows.
	probeBudget = 45 * time.Second
	// commandBudget is for a pod that runs one command.
	commandBudget = 30 * time.Second
	// cutBudget is how soon a connection must be gone once the policy that
	// revokes it is in force.
	cutBudget = 2 * time.Second
	// holdBudget is how long a connection that must survive is watched after the
	// policy is in force: a cut would come with the policy.
	holdBudget = 500 * time.Millisecond
	// echoBudget is for one echo on a connection that must survive, after
	// holdBudget: the machine may be busy.
	echoBudget = 5 * time.Second
	// countBudget is for what was counted or logged to be told.
	countBudget = 3 * time.Second
	// countRest is how long a number that must not be higher is left alone before
	// it is looked at again.
	countRest = 300 * time.Millisecond
	// fullAfter is how long nobody has called when every bucket of a rate limit is
	// full: a second by the rules, and what clocks are coarse by.
	fullAfter = 1050 * time.Millisecond
	// statusBudget is for a status to be written, which controllers do at least
	// every 10 s (S-03).
	statusBudget = 12 * time.Second
	// acceptBudget is for the status of what a write concerns to follow it.
	acceptBudget = 15 * time.Second
	// cleanBudget is for giving everything back.
	cleanBudget = 25 * time.Second
	// goneBudget is for namespaces to be gone that were deleted: their pods end,
	// and Kubernetes looks through all kinds of objects.
	goneBudget = 90 * time.Second
	// othersBudget is for another run to give back a namespace whose name both
	// need: it has scenarios of its own to carry out there.
	othersBudget = 5 * time.Minute
	// bundleBudget is for gathering the evidence of one scenario.
	bundleBudget = 15 * time.Second

	// pollInterval is between two looks at what cannot be waited for otherwise.
	pollInterval = 100 * time.Millisecond
)
