package watch_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// spans is what the index says it is of.
func (c cluster) spans(t *testing.T) map[string]revision.Span {
	t.Helper()
	w, err := c.index.Watch(ns, "web", 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	spans := map[string]revision.Span{}
	for _, part := range w.Latest().Stamp.Revision {
		spans[part.Kind] = part.Span
	}
	return spans
}

func (c cluster) reach(t *testing.T, least revision.Least) (void []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	void, err := c.watcher.Reach(ctx, least)
	if err != nil {
		t.Fatal(err)
	}
	return void
}

func TestARevisionIsFromTheNewestChangeToWhereTheKindIsComplete(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		listed := number(t, stub.Version())
		want := map[string]revision.Span{}
		for _, kind := range []watch.Kind{watch.Pods, watch.Namespaces, watch.Servers, watch.ServerAuthorizations} {
			want[string(kind)] = revision.Span{From: listed, To: listed}
		}
		same := func(when string) {
			t.Helper()
			if diff := cmp.Diff(want, c.spans(t)); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
		}
		same("after the lists, which may hide deletions")
		added := stub.Put(authorizations, mkAuthorization("more", "http"))
		c.await(t, watch.ServerAuthorizations, added)
		want["serverauthorizations"] = revision.Span{From: number(t, added), To: number(t, added)}
		same("after an addition")
		gone := stub.Delete(authorizations, ns, "any")
		c.await(t, watch.ServerAuthorizations, gone)
		want["serverauthorizations"] = revision.Span{From: number(t, gone), To: number(t, gone)}
		same("after a deletion")
		complete := stub.Bookmark(servers)
		c.await(t, watch.Servers, complete)
		want["servers"] = revision.Span{From: listed, To: number(t, complete)}
		same("after a bookmark")
		c.watcher.Refresh(watch.Servers)
		c.await(t, watch.Servers, stub.Put(pods, mkPod("other", meshed("other"))))
		if span := c.spans(t)["servers"]; span.From <= number(t, complete) || span.From != span.To {
			t.Errorf("after another list: %+v", span)
		}
	})
}

// What a watcher is told belongs to what it is told with.
func TestAChangeIsToldWithItsRevision(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	w, err := c.index.Watch(ns, "web", 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	<-w.Changed()
	for range 50 {
		version := number(t, stub.Put(authorizations, mkAuthorization("more", "http")))
		<-w.Changed()
		if behind := w.Latest().Stamp.Revision.Behind(revision.Least{"serverauthorizations": version}); behind != nil {
			t.Fatalf("an addition of version %d is told as of %v", version, w.Latest().Stamp.Revision)
		}
		version = number(t, stub.Delete(authorizations, ns, "more"))
		<-w.Changed()
		if behind := w.Latest().Stamp.Revision.Behind(revision.Least{"serverauthorizations": version}); behind != nil {
			t.Fatalf("a deletion of version %d is told as of %v", version, w.Latest().Stamp.Revision)
		}
	}
}

func TestWhatChangesNothingIsToldNobodyForItsVersion(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	w, err := c.index.Watch(ns, "web", 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	<-w.Changed()
	before := w.Latest()
	for range 20 {
		server := mkServer("http", "web")
		server["metadata"].(object)["annotations"] = object{"x": "y"}
		c.await(t, watch.Servers, stub.Put(servers, server))
		c.await(t, watch.Pods, stub.Bookmark(pods))
	}
	select {
	case <-w.Changed():
		t.Errorf("told %+v, and had been told %+v", w.Latest(), before)
	default:
	}
}

// Abuse case 80, from the controller's side.
func TestReachWaitsUntilTheIndexIsAsNew(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		fill(stub)
		c := follow(t, stub).synced(t)
		// The other replica has seen a deletion of which no event comes here.
		stub.Silently(authorizations, func(objects map[string]object) { delete(objects, ns+"/any") })
		version := number(t, stub.Version())
		c.expect(t, "before", "web", "http", "any")
		if void := c.reach(t, revision.Least{"serverauthorizations": version, "pods": 1}); void != nil {
			t.Errorf("void: %v", void)
		}
		c.expect(t, "once it is as new", "web", "http")
		if behind := w(t, c).Behind(revision.Least{"serverauthorizations": version}); behind != nil {
			t.Errorf("what is told is behind in %v", behind)
		}
	})
}

func w(t *testing.T, c cluster) revision.Revision { return revision.New(c.spans(t)) }

func TestWhatIsReachedCostsNoList(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	before := stub.Lists(servers)
	c.reach(t, c.least(t))
	c.reach(t, nil)
	// A quiet kind: what another replica was told by bookmarks is not asked for.
	c.await(t, watch.ServerAuthorizations, stub.Put(authorizations, mkAuthorization("more", "http")))
	c.reach(t, c.least(t))
	if got := stub.Lists(servers); got != before {
		t.Errorf("%d lists", got-before)
	}
}

func (c cluster) least(t *testing.T) revision.Least { return revision.New(c.spans(t)).Least() }

func TestManyWhoWaitShareAList(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	before := stub.Lists(servers)
	stub.Silently(servers, func(map[string]object) {})
	version := number(t, stub.Version())
	var waiting sync.WaitGroup
	for range 500 {
		waiting.Go(func() { c.reach(t, revision.Least{"servers": version}) })
	}
	waiting.Wait()
	const most = 20
	if got := stub.Lists(servers) - before; got > most {
		t.Errorf("%d lists for 500 who waited", got)
	}
}

// A version that the cluster does not have can never be reached: only an answer of
// the API server proves it, no clock.
func TestVersionsBeyondTheClustersPresentAreVoid(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		for range 1000 {
			stub.Bookmark(servers)
		}
		fill(stub)
		c := follow(t, stub).synced(t)
		held := c.least(t)
		stub.SetBack(500)
		stub.Silently(authorizations, func(objects map[string]object) { delete(objects, ns+"/any") })
		// As at the start of a controller: lists, now lower ones.
		for _, kind := range []watch.Kind{watch.Pods, watch.Namespaces, watch.Servers, watch.ServerAuthorizations} {
			c.watcher.Refresh(kind)
		}
		for begun := time.Now(); c.watcher.Marks.Seen()[watch.ServerAuthorizations] != 501; time.Sleep(time.Millisecond) {
			if time.Since(begun) > budget {
				t.Fatalf("marks are %v", c.watcher.Marks.Seen())
			}
		}
		void := c.reach(t, held)
		if diff := cmp.Diff([]string{"namespaces", "pods", "serverauthorizations", "servers"}, void); diff != "" {
			t.Errorf("void: -want +got\n%s", diff)
		}
		c.expect(t, "after the store was set back", "web", "http")
		if got := c.spans(t)["serverauthorizations"]; got != (revision.Span{From: 501, To: 501}) {
			t.Errorf("it says it is of %+v", got)
		}
		// From here it goes on as ever.
		c.await(t, watch.Servers, stub.Put(servers, mkServer("other", "none")))
		if void := c.reach(t, c.least(t)); void != nil {
			t.Errorf("void: %v", void)
		}
	})
}

func TestWhoCannotAskTheAPIServerProvesNothing(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	stub.Refuse(servers, http.StatusInternalServerError)
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	if void, err := c.watcher.Reach(ctx, revision.Least{"servers": 1 << 40}); err == nil {
		t.Errorf("void: %v", void)
	}
	stub.Refuse(servers, 0)
	if void := c.reach(t, revision.Least{"servers": 1 << 40}); !slices.Equal(void, []string{"servers"}) {
		t.Errorf("void: %v", void)
	}
}

// C-30: what did not exist at start is unknown here until the next one.
func TestAKindThatIsNotWatchedIsVoidUnlessItIsServed(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	if void := c.reach(t, revision.Least{"httproutes": 7, "a kind of a newer version": 7}); !slices.Equal(void, []string{"a kind of a newer version", "httproutes"}) {
		t.Errorf("void: %v", void)
	}
	serveAll(stub)
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	if void, err := c.watcher.Reach(ctx, revision.Least{"httproutes": 7}); err == nil || !strings.Contains(err.Error(), "was not when this controller started") {
		t.Errorf("void: %v, %v", void, err)
	}
}

func TestReachEndsWithItsContext(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	c := follow(t, stub).synced(t)
	release := stub.Hold(servers)
	defer release()
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	if void, err := c.watcher.Reach(ctx, revision.Least{"servers": 1 << 40}); err == nil || ctx.Err() == nil {
		t.Errorf("void: %v, %v", void, err)
	}
}
