package status

import (
	"net/http"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/mesh/kube/kubetest"
)

func mkLease(holder string, renewed time.Time, lasts time.Duration) *coordinationv1.Lease {
	seconds, at := int32(lasts/time.Second), metav1.NewMicroTime(renewed)
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: &seconds, RenewTime: &at}}
	if holder != "" {
		lease.Spec.HolderIdentity = &holder
	}
	return lease
}

// standing is a lease whose time and sights the test decides on.
type standing struct {
	*lease
	t      *testing.T
	server *kubetest.Server
	clock  time.Time
}

func mkStanding(t *testing.T) *standing {
	s := &standing{t: t, server: kubetest.New(t), clock: noon}
	client, err := kube.For(s.server.Config(), coordinationv1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Client.CloseIdleConnections)
	s.lease = newLease(client, "linkerd", "me")
	s.now = func() time.Time { return s.clock }
	return s
}

// look shows the lease as it is now, as its watch does.
func (s *standing) look() {
	var now coordinationv1.Lease
	if s.server.Get(leasePath, &now) {
		s.observe(&now)
	} else {
		s.observe(nil)
	}
}

// after lets time pass, does what is due and expects when the next look is.
func (s *standing) after(d, next time.Duration, held bool) {
	s.t.Helper()
	s.clock = s.clock.Add(d)
	if got := s.step(s.t.Context()); got != next || s.held() != held {
		s.t.Errorf("the next look is in %s, want %s; held: %v, want %v", got, next, s.held(), held)
	}
}

func (s *standing) holder() string {
	var now coordinationv1.Lease
	s.server.Get(leasePath, &now)
	return holderOf(&now)
}

// S-01: 30 s, renewed one second before they are over.
func TestALeaseIsTakenRenewedInTimeAndGivenBack(t *testing.T) {
	s := mkStanding(t)
	s.after(0, leaseDuration, false) // nothing is known yet
	s.look()
	s.after(0, 29*time.Second, true)
	var made coordinationv1.Lease
	s.server.Get(leasePath, &made)
	if *made.Spec.LeaseDurationSeconds != 30 || holderOf(&made) != "me" || !made.Spec.AcquireTime.Time.Equal(noon) {
		t.Errorf("the lease is %+v", made.Spec)
	}
	s.look()
	s.after(10*time.Second, 19*time.Second, true)
	s.after(19*time.Second, 29*time.Second, true)
	var renewed coordinationv1.Lease
	s.server.Get(leasePath, &renewed)
	if !renewed.Spec.RenewTime.Time.Equal(noon.Add(29*time.Second)) || !renewed.Spec.AcquireTime.Time.Equal(noon) {
		t.Errorf("the renewed lease is %+v", renewed.Spec)
	}
	s.release(t.Context())
	if s.held() || s.holder() != "" {
		t.Errorf("after it is given back, held: %v, holder %q", s.held(), s.holder())
	}
}

func TestALeaseOfAnotherIsTakenOnlyWhenItHasExpired(t *testing.T) {
	s := mkStanding(t)
	s.server.Put(leasePath, mkLease("other", noon.Add(-10*time.Second), 30*time.Second))
	s.look()
	s.after(0, 20*time.Second, false)
	s.after(20*time.Second, 29*time.Second, true)
	var taken coordinationv1.Lease
	if s.server.Get(leasePath, &taken); holderOf(&taken) != "me" || *taken.Spec.LeaseTransitions != 1 {
		t.Errorf("the lease is %+v", taken.Spec)
	}
}

func TestALeaseThatIsFreeIsTakenAtOnce(t *testing.T) {
	s := mkStanding(t)
	s.server.Put(leasePath, mkLease("", noon, 30*time.Second))
	s.look()
	s.after(0, 29*time.Second, true)
}

// A container that starts again is the same holder.
func TestAHolderThatStartsAgainGoesOn(t *testing.T) {
	s := mkStanding(t)
	s.server.Put(leasePath, mkLease("me", noon, 30*time.Second))
	s.look()
	s.after(time.Second, 29*time.Second, true)
}

func TestWhoeverIsFasterHoldsTheLease(t *testing.T) {
	s := mkStanding(t)
	s.look()
	s.server.Put(leasePath, mkLease("other", noon, 30*time.Second)) // not seen yet
	s.after(0, leaseRetry, false)
	s.look()
	s.after(0, 30*time.Second, false)
	if s.holder() != "other" {
		t.Errorf("the holder is %q", s.holder())
	}
}

// A holder that cannot renew stops writing when its time is over.
func TestAHolderWhoseRenewalsFailHoldsNoLonger(t *testing.T) {
	s := mkStanding(t)
	s.look()
	s.after(0, 29*time.Second, true)
	s.server.Fail(func(method, _ string) int {
		if method == http.MethodPut {
			return http.StatusInternalServerError
		}
		return 0
	})
	s.after(29*time.Second, leaseRetry, true)
	s.after(time.Second, leaseRetry, false)
	s.server.Fail(nil)
	s.after(time.Second, 29*time.Second, true)
}

func TestAHolderThatIsPushedAsideYields(t *testing.T) {
	s := mkStanding(t)
	s.look()
	s.after(0, 29*time.Second, true)
	s.server.Put(leasePath, mkLease("other", noon, 30*time.Second))
	s.look()
	s.after(0, 30*time.Second, false)
}
