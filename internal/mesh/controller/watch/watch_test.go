package watch_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

const (
	pods           = "/api/v1/pods"
	namespaces     = "/api/v1/namespaces"
	servers        = "/apis/policy.linkerd.io/v1beta3/servers"
	authorizations = "/apis/policy.linkerd.io/v1beta1/serverauthorizations"

	ns = "emojivoto"
	// budget is what anything here may take; it is never waited for in full.
	budget = 20 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type object = apistub.Object

func mkPod(name string, labels object) object {
	return object{"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"namespace": ns, "name": name, "uid": name, "labels": labels},
		"spec":     object{"containers": []any{object{"name": "app", "image": "x", "ports": []any{object{"name": "http", "containerPort": 8080}}}}}}
}

func meshed(app string) object { return object{"app": app, api.ControlPlaneLabel: "linkerd"} }

func mkServer(name, app string) object {
	return object{"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
		"metadata": object{"namespace": ns, "name": name, "uid": name, "creationTimestamp": "2026-01-02T03:04:05Z"},
		"spec":     object{"podSelector": object{"matchLabels": object{"app": app}}, "port": "http", "proxyProtocol": "HTTP/1"}}
}

func mkAuthorization(name, server string) object {
	return object{"apiVersion": "policy.linkerd.io/v1beta1", "kind": "ServerAuthorization",
		"metadata": object{"namespace": ns, "name": name, "uid": name},
		"spec":     object{"server": object{"name": server}, "client": object{"unauthenticated": true, "networks": []any{object{"cidr": "10.0.0.0/8"}}}}}
}

// cluster is a stub with an index that follows it.
type cluster struct {
	*apistub.Server
	index   *index.Index
	watcher *watch.Watcher
}

// follow runs the watches until the test ends.
func follow(t *testing.T, stub *apistub.Server) cluster {
	t.Helper()
	core, err := kube.For(stub.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	custom, err := dynamic.NewForConfig(stub.Config())
	if err != nil {
		t.Fatal(err)
	}
	heads, err := metadata.NewForConfig(stub.Config())
	if err != nil {
		t.Fatal(err)
	}
	x := index.New(index.Config{Dialect: api.Documented()})
	c := cluster{stub, x, watch.New(x, watch.Clients{Core: core, Custom: custom, Metadata: heads})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.watcher.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return c
}

func (c cluster) synced(t *testing.T) cluster {
	t.Helper()
	select {
	case <-c.watcher.Synced():
	case <-time.After(budget):
		t.Fatal("never synchronised")
	}
	return c
}

// await waits until the index has taken the version.
func (c cluster) await(t *testing.T, kind watch.Kind, version string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	if err := c.watcher.Marks.Await(ctx, map[watch.Kind]uint64{kind: number(t, version)}); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, version string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// policy is who decides on the pod's port 8080, and the authorizations there.
func (c cluster) policy(t *testing.T, pod string) (names []string) {
	t.Helper()
	snapshot, err := c.index.Lookup(ns, pod, 8080)
	if err != nil {
		return []string{err.Error()}
	}
	names = append(names, snapshot.Server.Reference.Name)
	for _, a := range snapshot.Server.Authorizations {
		names = append(names, a.Reference.Name)
	}
	return names
}

func (c cluster) expect(t *testing.T, when, pod string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, c.policy(t, pod)); diff != "" {
		t.Errorf("%s: -want +got\n%s", when, diff)
	}
}

func fill(stub *apistub.Server) {
	stub.Put(pods, mkPod("web", meshed("web")))
	stub.Put(pods, mkPod("bare", object{"app": "web"}))
	stub.Put(servers, mkServer("http", "web"))
	stub.Put(authorizations, mkAuthorization("any", "http"))
}

// bothWays runs a test with streamed lists and without.
func bothWays(t *testing.T, test func(t *testing.T, stub *apistub.Server)) {
	t.Run("streamed lists", func(t *testing.T) { test(t, apistub.New(t)) })
	t.Run("plain lists", func(t *testing.T) {
		stub := apistub.New(t)
		stub.WithoutStreamedLists()
		test(t, stub)
	})
}

func TestTheIndexFollowsListsAndEvents(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		c.expect(t, "after the lists", "web", "http", "any")
		c.expect(t, "a pod without proxy", "bare", "unknown pod")
		// The mark is raised after the index has taken the event, never before.
		c.await(t, watch.ServerAuthorizations, stub.Put(authorizations, mkAuthorization("more", "http")))
		c.expect(t, "after an addition", "web", "http", "any", "more")
		c.await(t, watch.ServerAuthorizations, stub.Delete(authorizations, ns, "any"))
		c.expect(t, "after a deletion", "web", "http", "more")
		c.await(t, watch.Servers, stub.Delete(servers, ns, "http"))
		c.expect(t, "without the Server", "web", "all-unauthenticated", "all-unauthenticated")
		c.await(t, watch.Pods, stub.Delete(pods, ns, "web"))
		c.expect(t, "without the pod", "web", "unknown pod")
	})
}

func TestOfABurstEachMarkRisesWithItsEventInForce(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	var versions []string
	for i := range 300 {
		versions = append(versions, stub.Put(authorizations, mkAuthorization(fmt.Sprintf("burst-%d", i), "http")))
	}
	for i, version := range versions {
		c.await(t, watch.ServerAuthorizations, version)
		if names := c.policy(t, "web"); !slices.Contains(names, fmt.Sprintf("burst-%d", i)) {
			t.Fatalf("event %d is said to be in force and is not: %v", i, names)
		}
	}
	for i := range versions {
		versions[i] = stub.Delete(authorizations, ns, fmt.Sprintf("burst-%d", i))
	}
	for i, version := range versions {
		c.await(t, watch.ServerAuthorizations, version)
		if names := c.policy(t, "web"); slices.Contains(names, fmt.Sprintf("burst-%d", i)) {
			t.Fatalf("deletion %d is said to be in force and is not: %v", i, names)
		}
	}
	c.expect(t, "after the burst", "web", "http", "any")
}

func TestMarksBeginWithTheListsVersionAndRiseWithBookmarks(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		// Streamed lists may be followed by a bookmark; none of them says less.
		for kind, version := range c.watcher.Marks.Seen() {
			if version < number(t, stub.Version()) {
				t.Errorf("%s is marked %d after a list at %s", kind, version, stub.Version())
			}
		}
		c.await(t, watch.Servers, stub.Bookmark(servers))
		if got := c.watcher.Marks.Seen()[watch.Servers]; got != number(t, stub.Version()) {
			t.Errorf("after a bookmark at %s the mark is %d", stub.Version(), got)
		}
		if got := c.watcher.Marks.Seen()[watch.ServerAuthorizations]; got >= number(t, stub.Version()) {
			t.Errorf("another kind's bookmark raised the mark to %d", got)
		}
	})
}

func TestNothingIsCompleteBeforeEveryKindIs(t *testing.T) {
	for _, late := range []string{pods, namespaces, servers, authorizations} {
		stub := apistub.New(t)
		fill(stub)
		release := stub.Hold(late)
		c := follow(t, stub)
		ctx, cancel := context.WithTimeout(context.Background(), budget)
		for path, kind := range map[string]watch.Kind{pods: watch.Pods, namespaces: watch.Namespaces, servers: watch.Servers, authorizations: watch.ServerAuthorizations} {
			if path == late {
				continue
			}
			if err := c.watcher.Marks.Await(ctx, map[watch.Kind]uint64{kind: 1}); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		cancel()
		select {
		case <-c.watcher.Synced():
			t.Errorf("complete without %s", late)
		default:
		}
		release()
		c.synced(t).expect(t, "once "+late+" came", "web", "http", "any")
	}
}

func TestAFailingListIsTriedAgain(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusNotFound} {
		stub := apistub.New(t)
		fill(stub)
		stub.Refuse(servers, status)
		c := follow(t, stub)
		for stub.Lists(servers) < 2 {
			time.Sleep(time.Millisecond)
		}
		stub.Refuse(servers, 0)
		c.synced(t).expect(t, http.StatusText(status), "web", "http", "any")
	}
}

func TestWhatChangedWhileTheWatchWasCutIsFoundByTheNextList(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		w, err := c.index.Watch(ns, "web", 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		<-w.Changed()
		stub.Silently(authorizations, func(objects map[string]object) {
			delete(objects, ns+"/any")
			objects[ns+"/new"] = mkAuthorization("new", "http")
		})
		stub.Silently(servers, func(objects map[string]object) { objects[ns+"/http"]["metadata"].(object)["labels"] = object{"x": "y"} })
		stub.Expire()
		c.await(t, watch.ServerAuthorizations, stub.Version())
		c.expect(t, "after the list", "web", "http", "new")
		// One list is one step: the deletion was never seen without the addition.
		<-w.Changed()
		if names := w.Snapshot().Server.Authorizations; len(names) != 1 || names[0].Reference.Name != "new" {
			t.Errorf("the watcher was told %v", names)
		}
	})
}

func TestACutWatchContinuesWhereItWas(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	lists := stub.Lists(authorizations)
	// A watch that ends without any event is taken for a fault, and lists again.
	c.await(t, watch.ServerAuthorizations, stub.Put(authorizations, mkAuthorization("before", "http")))
	stub.Cut()
	c.await(t, watch.ServerAuthorizations, stub.Put(authorizations, mkAuthorization("more", "http")))
	c.expect(t, "after the cut", "web", "http", "any", "before", "more")
	if got := stub.Lists(authorizations); got != lists {
		t.Errorf("listed %d times more", got-lists)
	}
}

func TestARefreshReachesWhatNoEventTells(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		version := stub.Put(servers, mkServer("other", "none"))
		if got := c.watcher.Marks.Seen()[watch.ServerAuthorizations]; got >= number(t, version) {
			t.Fatalf("the mark is %d already", got)
		}
		c.watcher.Refresh(watch.ServerAuthorizations)
		c.await(t, watch.ServerAuthorizations, version)
		c.expect(t, "after the refresh", "web", "http", "any")
		c.await(t, watch.ServerAuthorizations, stub.Delete(authorizations, ns, "any"))
		c.expect(t, "and events still come", "web", "http")
	})
}

// What a lagging cache answers may be older than a revocation.
func TestListsAskForThePresentState(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		version := stub.Put(servers, mkServer("other", "none"))
		c.watcher.Refresh(watch.ServerAuthorizations)
		c.await(t, watch.ServerAuthorizations, version)
		if n := stub.Stale(); n != 0 {
			t.Errorf("%d lists were content with any version", n)
		}
	})
}

func TestAnObjectThatCannotBeDecodedHidesNoOther(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		bad := mkAuthorization("bad", "http")
		bad["spec"].(object)["client"] = object{"networks": "everywhere"}
		stub.Put(authorizations, bad)
		badServer := mkServer("bad", "web")
		badServer["spec"].(object)["podSelector"] = []any{"web"}
		stub.Put(servers, badServer)
		fill(stub)
		c := follow(t, stub).synced(t)
		c.expect(t, "after the lists", "web", "http", "any")
		worse := mkAuthorization("any", "http")
		worse["spec"].(object)["client"] = object{"unauthenticated": "yes"}
		c.await(t, watch.ServerAuthorizations, stub.Put(authorizations, worse))
		c.expect(t, "after an update that cannot be decoded", "web", "http")
		var unusable []string
		for _, finding := range c.index.Findings(ns) {
			if finding.Reason == index.Unusable {
				unusable = append(unusable, finding.Object.Kind+"/"+finding.Object.Name)
			}
		}
		if diff := cmp.Diff([]string{"Server/bad", "ServerAuthorization/any", "ServerAuthorization/bad"}, unusable); diff != "" {
			t.Errorf("unusable: -want +got\n%s", diff)
		}
	})
}

func TestMissingAndEmptyValuesStayDifferentOnTheWayIn(t *testing.T) {
	stub := apistub.New(t)
	stub.Put(pods, mkPod("web", meshed("web")))
	server := func(name string, expression object) {
		s := mkServer(name, "")
		s["spec"].(object)["podSelector"] = object{"matchExpressions": []any{expression}}
		stub.Put(servers, s)
	}
	server("a-missing", object{"key": "app", "operator": "NotIn"})
	server("b-empty", object{"key": "app", "operator": "Exists", "values": []any{}})
	server("c-empty", object{"key": "app", "operator": "NotIn", "values": []any{}})
	follow(t, stub).synced(t).expect(t, "of three selectors", "web", "c-empty")
}

func TestAwaitSaysWhatItWaitedFor(t *testing.T) {
	var marks watch.Marks
	if err := marks.Observe(watch.Servers, "x"); err == nil {
		t.Error("x is taken for a version")
	}
	for _, version := range []string{"7", "5"} {
		if err := marks.Observe(watch.Servers, version); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(map[watch.Kind]uint64{watch.Servers: 7}, marks.Seen()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := marks.Await(ctx, map[watch.Kind]uint64{watch.Servers: 7}); err != nil {
		t.Error(err)
	}
	cancel()
	err := marks.Await(ctx, map[watch.Kind]uint64{watch.Servers: 8, watch.Pods: 1})
	if err == nil || err.Error() != "await [pods servers]: context canceled" {
		t.Errorf("got %v", err)
	}
}
