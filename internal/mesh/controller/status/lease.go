package status

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
)

// LeaseName is the Lease whose holder writes (S-01).
const LeaseName = "policy-controller-write"

// Times of the Lease (S-01). Replicas must agree on leaseDuration.
const (
	// leaseDuration is how long a holder counts that says nothing.
	leaseDuration = 30 * time.Second
	// renewGrace is how long before that it speaks up.
	renewGrace = time.Second
	// leaseRetry is between two attempts that fail.
	leaseRetry = time.Second
	// leaseTimeout bounds one request about the Lease.
	leaseTimeout = 5 * time.Second
)

// lease is this replica's part in the Lease. Its fields are set once; what
// changes is under mu.
type lease struct {
	client    rest.Interface
	namespace string
	holder    string
	now       func() time.Time

	mu    sync.Mutex
	until time.Time // until when this replica holds it; zero: it does not
	known bool      // somebody has been seen to hold it
	// changed has a token when seen is new, or holding begins.
	changed chan struct{}
	seen    *coordinationv1.Lease
	looked  bool
}

func newLease(client rest.Interface, namespace, holder string) *lease {
	return &lease{client: client, namespace: namespace, holder: holder, now: time.Now, changed: make(chan struct{}, 1)}
}

// held says whether this replica may write now.
func (l *lease) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now().Before(l.until)
}

// taken says whether somebody holds the Lease.
func (l *lease) taken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// run takes and renews the Lease until ctx ends, and gives it back then, so that
// the next replica need not wait for it to expire. told is called whenever
// something may have changed.
func (l *lease) run(ctx context.Context, told func()) {
	var watching sync.WaitGroup
	watching.Go(func() {
		kube.Watch(ctx, l.client, "leases", kube.Scope{Namespace: l.namespace, Fields: "metadata.name=" + LeaseName},
			kube.Latest[*coordinationv1.Lease](l.observe), nil)
	})
	defer watching.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.release(context.WithoutCancel(ctx))
			return
		case <-l.changed:
		case <-timer.C:
		}
		timer.Reset(l.step(ctx))
		told()
	}
}

// observe takes note of the Lease as it is, nil when there is none.
func (l *lease) observe(now *coordinationv1.Lease) {
	l.mu.Lock()
	if now == nil || l.seen == nil || !older(now.ResourceVersion, l.seen.ResourceVersion) { // the answer to a claim may have come first
		l.seen = now
		if now != nil && holderOf(now) != l.holder && holderOf(now) != "" {
			l.until, l.known = time.Time{}, true
		}
	}
	l.looked = true
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// step does what is due and says when to look again.
func (l *lease) step(ctx context.Context) time.Duration {
	l.mu.Lock()
	seen, looked, until, now := l.seen, l.looked, l.until, l.now()
	l.mu.Unlock()
	switch {
	case !looked:
		return leaseDuration // the watch will tell
	case now.Before(until.Add(-renewGrace)):
		return until.Add(-renewGrace).Sub(now)
	case seen != nil && holderOf(seen) != l.holder && holderOf(seen) != "" && now.Before(expiry(seen)):
		return expiry(seen).Sub(now)
	}
	held := now.Before(until)
	if err := l.claim(ctx, seen, now); err != nil {
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
			slog.Warn("the lease cannot be claimed", "lease", LeaseName, "error", err)
		}
		return leaseRetry // or sooner, when the watch tells who was faster
	}
	if !held {
		slog.Info("this replica writes status", "lease", LeaseName, "holder", l.holder)
	}
	return leaseDuration - renewGrace
}

// claim writes this replica's name into the Lease as it was seen.
func (l *lease) claim(ctx context.Context, seen *coordinationv1.Lease, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	seconds, renewed := int32(leaseDuration/time.Second), metav1.NewMicroTime(now)
	written := &coordinationv1.Lease{}
	var err error
	if seen == nil {
		made := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: LeaseName, Namespace: l.namespace, Labels: map[string]string{"app.kubernetes.io/part-of": "meshproof", "linkerd.io/control-plane-component": "destination"}},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &l.holder, LeaseDurationSeconds: &seconds, AcquireTime: &renewed, RenewTime: &renewed},
		}
		err = l.client.Post().Namespace(l.namespace).Resource("leases").VersionedParams(&metav1.CreateOptions{FieldManager: FieldManager}, metav1.ParameterCodec).Body(made).Do(ctx).Into(written)
	} else {
		next := seen.DeepCopy()
		if holderOf(seen) != l.holder {
			turns := int32(1)
			if seen.Spec.LeaseTransitions != nil {
				turns += *seen.Spec.LeaseTransitions
			}
			next.Spec.AcquireTime, next.Spec.LeaseTransitions = &renewed, &turns
		}
		next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = &l.holder, &seconds, &renewed
		err = l.put(ctx, next, written)
	}
	if err != nil {
		return fmt.Errorf("claim lease %s/%s: %w", l.namespace, LeaseName, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen, l.until, l.known = written, now.Add(leaseDuration), true
	return nil
}

func (l *lease) put(ctx context.Context, next, written *coordinationv1.Lease) error {
	return l.client.Put().Namespace(l.namespace).Resource("leases").Name(LeaseName).VersionedParams(&metav1.UpdateOptions{FieldManager: FieldManager}, metav1.ParameterCodec).Body(next).Do(ctx).Into(written)
}

// release gives the Lease back.
func (l *lease) release(ctx context.Context) {
	l.mu.Lock()
	seen, held := l.seen, l.now().Before(l.until)
	l.until = time.Time{}
	l.mu.Unlock()
	if !held {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	next := seen.DeepCopy()
	next.Spec.HolderIdentity = nil
	if err := l.put(ctx, next, &coordinationv1.Lease{}); err != nil {
		slog.Warn("the lease is not given back, it expires", "lease", LeaseName, "error", err)
		return
	}
	slog.Info("the lease is given back", "lease", LeaseName)
}

func holderOf(l *coordinationv1.Lease) string {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// expiry is when a holder counts no more. Clocks of replicas may differ; two
// holders for a moment would write the same.
func expiry(l *coordinationv1.Lease) time.Time {
	if l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
		return time.Time{}
	}
	return l.Spec.RenewTime.Add(time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second)
}
