package index

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// mkLimit is a policy of so many requests that Server grpc has accepted.
func mkLimit(name string, total int64, edits ...func(*api.HTTPLocalRateLimitPolicy)) *api.HTTPLocalRateLimitPolicy {
	l := &api.HTTPLocalRateLimitPolicy{ObjectMeta: meta(name)}
	l.Spec.TargetRef = onServer("grpc")
	l.Spec.Total = &api.Limit{RequestsPerSecond: total}
	l.Status.TargetRef = new(onServer("grpc"))
	l.Status.Conditions = []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue}}
	for _, edit := range edits {
		edit(l)
	}
	return l
}

func limited(name string, total uint32) *RateLimit {
	return &RateLimit{Reference: Reference{RateLimitPolicy, name}, Total: total}
}

// there is no limit where there are no HTTP routes.
func TestServersOfHTTPAloneAreLimited(t *testing.T) {
	for _, protocol := range api.ProxyProtocols() {
		x := mkIndex(api.Documented(), nil)
		x.apply(mkPod("voting"), grpcServer(speaking(protocol)), mkLimit("l", 5))
		server := x.at(t, "voting", 8080)
		var want *RateLimit
		if server.Protocol.Kind.httpCapable() {
			want = limited("l", 5)
		}
		if diff := cmp.Diff(want, server.RateLimit); diff != "" {
			t.Errorf("%s: -want +got\n%s", protocol, diff)
		}
		if other := x.at(t, "voting", 8801).RateLimit; other != nil {
			t.Errorf("a port without Server is limited: %v", other)
		}
	}
}

// R-02, S-09.
func TestTheOldestAcceptedLimitHolds(t *testing.T) {
	older := func(l *api.HTTPLocalRateLimitPolicy) { l.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Second)) }
	refused := func(l *api.HTTPLocalRateLimitPolicy) { l.Status.Conditions[0].Status = metav1.ConditionFalse }
	elsewhere := func(l *api.HTTPLocalRateLimitPolicy) { l.Status.TargetRef.Name = "x" }
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), grpcServer(), mkLimit("d", 1, older, refused), mkLimit("e", 2, older, elsewhere), mkLimit("f", 3, older, func(l *api.HTTPLocalRateLimitPolicy) { l.Status.TargetRef = nil }))
	expectLimit := func(want *RateLimit) {
		t.Helper()
		if diff := cmp.Diff(want, x.at(t, "voting", 8080).RateLimit); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	expectLimit(nil)
	x.apply(mkLimit("c", 4), mkLimit("b", 5))
	expectLimit(limited("b", 5))
	x.apply(mkLimit("z", 6, older))
	expectLimit(limited("z", 6))
	x.remove(mkLimit("z", 6))
	x.apply(mkLimit("b", 5, refused))
	expectLimit(limited("c", 4))
}

// and large numbers.
func TestALimitIsServedAsItIsWritten(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), grpcServer(), mkLimit("l", math.MaxInt64, func(l *api.HTTPLocalRateLimitPolicy) {
		l.Spec.Identity = &api.Limit{RequestsPerSecond: 2}
		l.Spec.Overrides = []api.LimitOverride{
			{RequestsPerSecond: 9, ClientRefs: []api.LimitClientReference{{Kind: "ServiceAccount", Name: "web"}, {Group: "core", Kind: "serviceaccount", Name: "db", Namespace: "ops"}}},
			{RequestsPerSecond: 1, ClientRefs: []api.LimitClientReference{{Kind: "ServiceAccount", Name: "web"}}},
		}
	}))
	const suffix = ".serviceaccount.identity.linkerd.cluster.local"
	want := &RateLimit{Reference: Reference{RateLimitPolicy, "l"}, Total: math.MaxUint32, Identity: 2, Overrides: []RateOverride{
		{9, []string{"db.ops" + suffix, "web.emojivoto" + suffix}}, {1, []string{"web.emojivoto" + suffix}},
	}}
	if diff := cmp.Diff(want, x.at(t, "voting", 8080).RateLimit); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// a mistake in one part lifts no other limit.
func TestWhatCanBeUnderstoodOfALimitHolds(t *testing.T) {
	identity := func(l *api.HTTPLocalRateLimitPolicy) { l.Spec.Identity = &api.Limit{RequestsPerSecond: 3} }
	for name, row := range map[string]struct {
		edit func(*api.HTTPLocalRateLimitPolicy)
		want *RateLimit
	}{
		"no total":  {func(l *api.HTTPLocalRateLimitPolicy) { l.Spec.Total.RequestsPerSecond = 0 }, &RateLimit{Reference: Reference{RateLimitPolicy, "l"}, Identity: 3}},
		"negative":  {func(l *api.HTTPLocalRateLimitPolicy) { l.Spec.Identity.RequestsPerSecond = -1 }, limited("l", 5)},
		"a Service": {func(l *api.HTTPLocalRateLimitPolicy) { l.Spec.TargetRef.Kind = "Service" }, nil},
		"a stranger": {func(l *api.HTTPLocalRateLimitPolicy) {
			l.Spec.Overrides = []api.LimitOverride{{RequestsPerSecond: 1, ClientRefs: []api.LimitClientReference{{Kind: "Group", Name: "g"}}}}
		}, &RateLimit{Reference: Reference{RateLimitPolicy, "l"}, Total: 5, Identity: 3}},
	} {
		for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
			x := mkIndex(dialect, nil)
			before := mkLimit("l", 7, identity)
			x.apply(mkPod("voting"), grpcServer(), before)
			kept := x.at(t, "voting", 8080).RateLimit
			x.apply(mkLimit("l", 5, identity, row.edit))
			want := row.want
			if !dialect.InvalidRevokes {
				want = kept
			}
			if diff := cmp.Diff(want, x.at(t, "voting", 8080).RateLimit); diff != "" {
				t.Errorf("%s, %s: -want +got\n%s", name, dialect, diff)
			}
		}
	}
}
