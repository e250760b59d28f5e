package index

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// TestRandomHistoriesAreAsARecomputeOfEverythingHasThem compares the index, after
// every step of random histories, with the naive world of naive_test.go: what
// each watched port is told, that nobody is told anything when nothing changed
// and what is answered to those who only ask. It shows,
//
func TestRandomHistoriesAreAsARecomputeOfEverythingHasThem(t *testing.T) {
	const histories = 20
	each := *historySteps / histories
	if testing.Short() {
		each = 500
	}
	for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
		for n := range uint64(histories) {
			seed := *historySeed + n
			t.Run(fmt.Sprintf("%s, seed %d", dialect, seed), func(t *testing.T) {
				t.Parallel()
				newHistory(seed, dialect).run(t, each)
			})
		}
	}
}

// A longer run, or one of other histories, is
//
//	go test -run RandomHistories . -args -history-steps=10000000 -history-seed=1000
var (
	historySteps = flag.Int("history-steps", 100_000, "steps of random histories, of each dialect")
	historySeed  = flag.Uint64("history-seed", 0, "the first of their seeds")
)

// history makes random changes to an index and to its naive twin.
type history struct {
	random  *rand.Rand
	dialect api.Dialect
	index   *Index
	world   world
	// generations tell pods of one name apart.
	generations map[string]int
	watches     map[spot]*following
	// log is what was done lately, for whoever has to understand a failure.
	log []string
}

type spot struct {
	namespace, pod string
	port           uint16
}

// following is a watch and what it was last told.
type following struct {
	watch *Watch
	uid   types.UID
	last  InboundServer
}

// change is one object as it is written, or deleted.
type change struct {
	namespace string
	id        id
	object    any
	deleted   bool
	// bad objects cannot be understood; instead is what counts of them where they
	// count for nothing good, nil if nothing does.
	bad     bool
	instead any
}

var historyPorts = []uint16{8080, 9090}

func newHistory(seed uint64, dialect api.Dialect) *history {
	return &history{
		random: rand.New(rand.NewPCG(seed, 1)), dialect: dialect, index: mkIndex(dialect, nil),
		world:   world{dialect: dialect, objects: map[string]map[id]any{"a": {}, "b": {}}},
		watches: map[spot]*following{}, generations: map[string]int{},
	}
}

func (h *history) run(t *testing.T, steps int) {
	for step := range steps {
		h.step()
		h.rewatch(t)
		if !h.check(t) {
			t.Fatalf("at step %d, after\n%s", step, h.tail())
		}
	}
}

func (h *history) tail() string {
	var text string
	for _, line := range h.log[max(0, len(h.log)-12):] {
		text += "  " + line + "\n"
	}
	return text
}

// step is one transaction, usually of one change.
func (h *history) step() {
	n := 1
	switch {
	case h.random.IntN(8) == 0:
		n += h.random.IntN(4)
	case h.random.IntN(50) == 0:
		n += h.random.IntN(40) // a burst
	}
	changes := make([]change, 0, n)
	for range n {
		changes = append(changes, h.change())
	}
	if h.random.IntN(100) == 0 {
		changes = h.sweep(h.pick("a", "b"))
	}
	h.index.Update(func(tx *Tx) {
		reduced := map[string]bool{}
		settle := func() {
			for namespace := range reduced {
				h.neglect(namespace)
			}
			clear(reduced)
		}
		events := h.random.IntN(2) == 0 // of a list there is but one
		for _, c := range changes {
			h.log = append(h.log, fmt.Sprintf("%d at once: %s/%v deleted=%v bad=%v", len(changes), c.namespace, c.id, c.deleted, c.bad))
			if c.deleted {
				tx.remove(c.object)
			} else {
				tx.apply(c.object)
			}
			if h.apply(c) {
				reduced[c.namespace] = true
			}
			if events {
				tx.Settle()
				settle()
			}
		}
		settle()
	})
	h.log = h.log[max(0, len(h.log)-100):]
}

// apply has the world take the change; it reports whether an object of a kind that
// keeps a namespace alive, or is dropped with it, is gone.
func (h *history) apply(c change) (reduced bool) {
	objects := h.world.objects[c.namespace]
	before, was := objects[c.id]
	switch {
	case c.deleted:
		delete(objects, c.id)
		return was && !slices.Contains([]string{"MeshTLSAuthentication", "NetworkAuthentication"}, c.id.kind)
	case !c.bad:
		objects[c.id] = c.object
	case !h.dialect.InvalidRevokes:
		// What was there stays.
	case c.instead == nil:
		delete(objects, c.id)
	default:
		objects[c.id] = remembering(c.instead, before)
	}
	if pod, is := before.(*corev1.Pod); is && pod.UID != c.object.(*corev1.Pod).UID {
		return true
	}
	return false
}

// remembering fills in what a closed Server last selected, where it does not say.
func remembering(instead, before any) any {
	now, is := instead.(closedServer)
	if !is {
		return instead
	}
	var last *api.Server
	switch b := before.(type) {
	case *api.Server:
		last = b
	case closedServer:
		last = b.Server
	default:
		return instead
	}
	filled := now.DeepCopy()
	if filled.Spec.PodSelector == nil {
		filled.Spec.PodSelector = last.Spec.PodSelector
	}
	if filled.Spec.Port.IntVal > 65535 {
		filled.Spec.Port = last.Spec.Port
	}
	return closedServer{filled}
}

// alive are the kinds that keep Linkerd's index of a namespace alive.
var alive = []string{"Pod", "Server", "ServerAuthorization", "AuthorizationPolicy", "HTTPRoute", "GatewayHTTPRoute"}

// sweep deletes what is there of those kinds.
func (h *history) sweep(namespace string) (changes []change) {
	for key, object := range h.world.objects[namespace] {
		switch o := object.(type) {
		case closedServer:
			object = o.Server
		case closedRoute:
			object = o.route
		}
		if slices.Contains(alive, key.kind) {
			c := change{namespace: namespace, id: key, object: object, deleted: true}
			h.another(c)
			changes = append(changes, c)
		}
	}
	return changes
}

// neglect is X-64.
func (h *history) neglect(namespace string) {
	if h.dialect.StatusAtOnce {
		return
	}
	objects := h.world.objects[namespace]
	for key := range objects {
		if slices.Contains(alive, key.kind) {
			return
		}
	}
	for key := range objects {
		if key.kind == "GRPCRoute" || key.kind == "HTTPLocalRateLimitPolicy" {
			delete(objects, key)
		}
	}
}

// rewatch begins and ends watches now and then.
func (h *history) rewatch(t *testing.T) {
	for namespace := range h.world.objects {
		for name, pod := range of[*corev1.Pod](h.world, namespace) {
			for _, port := range historyPorts {
				at := spot{namespace, name, port}
				f := h.watches[at]
				switch {
				case f != nil && f.uid == pod.UID && h.random.IntN(200) == 0:
					f.watch.Close()
					delete(h.watches, at)
				case f == nil && h.random.IntN(4) == 0:
					w, err := h.index.Watch(namespace, name, port)
					if err != nil || !changed(w) {
						t.Fatalf("watch %v: %v, or told nothing", at, err)
					}
					h.watches[at] = &following{w, pod.UID, w.Snapshot().Server}
				}
			}
		}
	}
}

// check compares the index with the world.
func (h *history) check(t *testing.T) bool {
	for namespace := range h.world.objects {
		for _, name := range []string{"p0", "p1", "p2"} {
			for _, port := range historyPorts {
				if !h.checkPort(t, spot{namespace, name, port}) {
					return false
				}
			}
		}
	}
	return true
}

func (h *history) checkPort(t *testing.T, at spot) bool {
	want, known := h.world.policy(at.namespace, at.pod, at.port)
	pod, _ := h.world.objects[at.namespace][id{"Pod", at.pod}].(*corev1.Pod)
	if f := h.watches[at]; f != nil && (!known || f.uid != pod.UID) {
		if !gone(f.watch) {
			t.Errorf("%v: the watch outlived its pod", at)
			return false
		}
		delete(h.watches, at)
	}
	f := h.watches[at]
	if f == nil {
		snapshot, err := h.index.Lookup(at.namespace, at.pod, at.port)
		if (err == nil) != known {
			t.Errorf("%v: looked up: %v, known: %v", at, err, known)
			return false
		}
		return !known || agree(t, at, "looked up", want, snapshot.Server)
	}
	told, now := changed(f.watch), f.watch.Snapshot().Server
	if !agree(t, at, "watched", want, now) {
		return false
	}
	if differs := !reflect.DeepEqual(now, f.last); told != differs {
		t.Errorf("%v: told %v of a change, although the policy differs: %v", at, told, differs)
		return false
	}
	f.last = now
	return true
}

func agree(t *testing.T, at spot, how string, want, got InboundServer) bool {
	if reflect.DeepEqual(want, got) {
		return true
	}
	diff := cmp.Diff(want, got, equateValues)
	if diff != "" {
		t.Errorf("%v, %s: -naive +index\n%s", at, how, diff)
	}
	return diff == ""
}
