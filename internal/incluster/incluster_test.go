package incluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/meshproof/meshproof/reports/result"
)

// job is an Indexed Job of that many shards.
func job(shards int32) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "job", UID: "uid-1", Labels: map[string]string{partOf: tool}},
		Spec: batchv1.JobSpec{CompletionMode: pointer(batchv1.IndexedCompletion), Completions: &shards}}
}

func self(shard int) *Self { return &Self{Namespace: "ns", Job: "job", UID: "uid-1", Shard: shard} }

// run is the result of a shard; what it says cannot be compressed to less than
// size bytes.
func run(shard, count, size int) *result.Run {
	random := rand.New(rand.NewPCG(uint64(shard), 1))
	text := make([]byte, size)
	for i := range text {
		text[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-"[random.IntN(64)]
	}
	r := &result.Run{SchemaVersion: result.SchemaVersion, ID: fmt.Sprint("r", shard), Shard: &result.Shard{Group: "uid-1", Index: shard, Count: count, Plan: "p"},
		Scenarios: []result.Scenario{{Name: fmt.Sprint("s", shard), Bundle: "", Steps: []result.Step{{Name: "step", Claims: []result.Claim{{Name: "c", Outcome: result.Passed, Observed: string(text)}}}}}}}
	r.Conclude(nil, false)
	return r
}

func TestWhatIsPublishedIsFetched(t *testing.T) {
	ctx, client := context.Background(), fake.NewClientset(job(3))
	large := 2 << 20 // packs to more than one ConfigMap may hold
	want := map[int]*result.Run{1: run(1, 3, 10), 2: run(2, 3, large), 3: run(3, 3, 10)}
	for shard, r := range want {
		if err := self(shard).Publish(ctx, client, r); err != nil {
			t.Fatal(err)
		}
	}
	list, _ := client.CoreV1().ConfigMaps("ns").List(ctx, metav1.ListOptions{})
	if len(list.Items) < 4 {
		t.Errorf("the large result is in one part: %d ConfigMaps", len(list.Items))
	}
	for _, part := range list.Items {
		if len(part.BinaryData[dataKey]) > 1<<20-64<<10 || part.Labels[jobLabel] != "job" || part.OwnerReferences[0].UID != "uid-1" || part.OwnerReferences[0].Kind != "Job" {
			t.Errorf("ConfigMap %s has %d bytes, %v", part.Name, len(part.BinaryData[dataKey]), part.ObjectMeta)
		}
	}
	got, err := Fetch(ctx, client, job(3))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fetched is not what was published (-want +got):\n%s", diff)
	}
}

// The files of a pod end with it; a report must not point at them.
func TestEvidenceThatStaysBehindIsNotPromised(t *testing.T) {
	ctx, client := context.Background(), fake.NewClientset(job(1))
	r := run(1, 1, 1)
	r.Scenarios[0].Bundle = "scenarios/s1/bundle"
	if err := self(1).Publish(ctx, client, r); err != nil {
		t.Fatal(err)
	}
	got, err := Fetch(ctx, client, job(1))
	if err != nil || got[1].Scenarios[0].Bundle != "" || r.Scenarios[0].Bundle == "" {
		t.Errorf("%v, bundle %q, and in the pod %q", err, got[1].Scenarios[0].Bundle, r.Scenarios[0].Bundle)
	}
}

func TestAnInterruptedShardPublishesToo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	client := fake.NewClientset(job(1))
	if err := self(1).Publish(ctx, client, run(1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if got, err := Fetch(context.Background(), client, job(1)); err != nil || got[1] == nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPublishingIsTriedAgainUnlessItIsRefused(t *testing.T) {
	resource := schema.GroupResource{Resource: "configmaps"}
	for _, c := range []struct {
		name    string
		err     error
		fails   int
		wantErr bool
		tries   int
	}{
		{"the API server is busy", apierrors.NewTooManyRequests("busy", 0), 2, false, 3},
		{"the connection breaks", errors.New("connection reset"), 1, false, 2},
		{"it is not allowed", apierrors.NewForbidden(resource, "x", errors.New("no")), 9, true, 1},
		{"the namespace is gone", apierrors.NewNotFound(resource, "x"), 9, true, 1},
	} {
		client := fake.NewClientset(job(1))
		tries := 0
		client.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			if tries++; tries <= c.fails {
				return true, nil, c.err
			}
			return false, nil, nil
		})
		err := self(1).Publish(context.Background(), client, run(1, 1, 1))
		if (err != nil) != c.wantErr || tries != c.tries {
			t.Errorf("%s: %d tries, error %v", c.name, tries, err)
		}
		if err != nil && !strings.Contains(err.Error(), "shard 1") {
			t.Errorf("%s: %v does not say whose result it is", c.name, err)
		}
	}
}

func TestASecondPodOfAShardReplacesTheResultOfTheFirst(t *testing.T) {
	ctx, client := context.Background(), fake.NewClientset(job(1))
	for _, size := range []int{5, 6} {
		if err := self(1).Publish(ctx, client, run(1, 1, size)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Fetch(ctx, client, job(1))
	if err != nil || len(got[1].Scenarios[0].Steps[0].Claims[0].Observed) != 6 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestResultsThatCannotBeTrustedAreRefused(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		change func(parts []*corev1.ConfigMap) []*corev1.ConfigMap
		want   string
	}{
		{"a part is missing", func(p []*corev1.ConfigMap) []*corev1.ConfigMap { return p[1:] }, "part 1 of 2 is missing"},
		{"a part was changed", func(p []*corev1.ConfigMap) []*corev1.ConfigMap { p[0].BinaryData[dataKey][20] ^= 1; return p }, "digest"},
		{"a part is of another result", func(p []*corev1.ConfigMap) []*corev1.ConfigMap { p[0].Annotations[digestAnnotation] = "x"; return p }, "different results"},
		{"a part has no number", func(p []*corev1.ConfigMap) []*corev1.ConfigMap { delete(p[0].Annotations, partAnnotation); return p }, "part-1 says"},
		{"it is another shard's", func(p []*corev1.ConfigMap) []*corev1.ConfigMap {
			for _, one := range p {
				one.Labels[shardLabel] = "2"
			}
			return p
		}, "another shard's"},
		{"it is of an earlier Job of that name", func(p []*corev1.ConfigMap) []*corev1.ConfigMap {
			for _, one := range p {
				one.OwnerReferences[0].UID = "uid-0"
			}
			return p
		}, ""},
	} {
		packed, err := pack(run(1, 2, 100))
		if err != nil {
			t.Fatal(err)
		}
		client := fake.NewClientset(job(2))
		for _, part := range c.change(self(1).parts(packed, len(packed)/2+1)) {
			if _, err := client.CoreV1().ConfigMaps("ns").Create(ctx, part, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Fetch(ctx, client, job(2))
		if len(got) != 0 || c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, error %v", c.name, got, err)
		}
	}
}

func TestTheJobIsFoundByItsNameItsCronJobsOrItsLabel(t *testing.T) {
	at := func(name string, minute int, owner string, labels map[string]string) *batchv1.Job {
		j := job(1)
		j.Name, j.UID, j.Labels, j.CreationTimestamp = name, types.UID(name), labels, metav1.NewTime(time.Unix(int64(60*minute), 0))
		if owner != "" {
			j.OwnerReferences = []metav1.OwnerReference{{Kind: "CronJob", Name: owner}}
		}
		return j
	}
	ours := map[string]string{partOf: tool}
	plain := at("plain", 9, "", nil)
	plain.Spec.CompletionMode = nil
	client := fake.NewClientset(at("once", 1, "", ours), at("night-1", 2, "night", ours), at("night-2", 3, "night", ours), at("other", 4, "", nil), plain)
	for name, want := range map[string]string{"": "night-2", "once": "once", "night": "night-2", "night-1": "night-1", "other": "other", "absent": "", "plain": ""} {
		got, err := Find(context.Background(), client, "ns", name)
		if want == "" {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		} else if err != nil || got.Name != want {
			t.Errorf("%q: %v, %v; want %s", name, got, err, want)
		}
	}
	if _, err := Find(context.Background(), client, "elsewhere", ""); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("in another namespace: %v", err)
	}
}

func pod(index int, status corev1.PodStatus) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("pod-", index), Labels: map[string]string{jobUIDLabel: "uid-1"},
		Annotations: map[string]string{indexLabel: fmt.Sprint(index)}}, Status: status}
}

func container1(state corev1.ContainerState) corev1.PodStatus {
	return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state}}}
}

func TestStatesSayWhatKeepsAShard(t *testing.T) {
	client := fake.NewClientset(
		pod(0, container1(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})),
		pod(1, container1(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "not there"}})),
		pod(2, container1(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Message: "first\nmeshproof: may not\n"}})),
		pod(3, container1(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}})),
		pod(4, corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes"}}}),
		pod(5, corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk"}),
		pod(6, container1(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})),
	)
	got, err := States(context.Background(), client, job(8))
	want := map[int]string{1: "runs", 2: "cannot start: ErrImagePull: not there", 3: "has ended with exit code 3: meshproof: may not", 4: "has passed",
		5: "is not scheduled: 0/1 nodes", 6: "has failed: Evicted disk", 7: "starts"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestWaitingEndsWithTheJob(t *testing.T) {
	running, done := job(1), job(1)
	done.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
	client := fake.NewClientset(running, pod(0, container1(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})))
	looks := 0
	client.PrependReactor("get", "jobs", func(clienttesting.Action) (bool, runtime.Object, error) {
		if looks++; looks < 2 {
			return true, running, nil
		}
		return true, done, nil
	})
	var said []string
	got, err := Wait(context.Background(), client, running, func(line string) { said = append(said, line) })
	if err != nil || !Finished(got) || looks != 2 {
		t.Errorf("%v, error %v after %d looks", got, err, looks)
	}
	if diff := cmp.Diff([]string{"shard 1 of 1 runs"}, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := Wait(ctx, fake.NewClientset(running), running, func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited longer than allowed: %v", err)
	}
	if _, err := Wait(context.Background(), fake.NewClientset(), running, func(string) {}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a Job that was deleted: %v", err)
	}
	another := job(1)
	another.UID = "uid-2"
	if _, err := Wait(context.Background(), fake.NewClientset(another), running, func(string) {}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a Job that was deleted and made again: %v", err)
	}
}

func TestAPodKnowsWhichShardItIs(t *testing.T) {
	env := map[string]string{envIndex: "2", envNamespace: "ns", envJob: "job", envUID: "uid-1"}
	get := func(name string) string { return env[name] }
	got, err := Myself(get)
	if diff := cmp.Diff(self(3), got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, c := range []struct{ name, value string }{{envIndex, ""}, {envIndex, "-1"}, {envIndex, "x"}, {envUID, ""}, {envJob, ""}, {envNamespace, ""}} {
		before := env[c.name]
		env[c.name] = c.value
		if _, err := Myself(get); !errors.Is(err, ErrNoJob) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("$%s is %q: %v", c.name, c.value, err)
		}
		env[c.name] = before
	}
}

func TestShardsOfAJobShareASeedAndHaveIDsOfTheirOwn(t *testing.T) {
	tails := map[string]int{}
	for shard := range 200 {
		id := RunID(time.Unix(int64(shard), 0), "uid-1", shard)
		tail := id[strings.LastIndex(id, "-")+1:]
		if other, twice := tails[tail]; twice || len(tail) != 4 {
			t.Fatalf("shards %d and %d both are %s", other, shard, id)
		}
		tails[tail] = shard
	}
	if Seed("uid-1") != Seed("uid-1") || Seed("uid-1") == Seed("uid-2") || Seed("uid-1") < 0 {
		t.Errorf("seeds %d, %d", Seed("uid-1"), Seed("uid-2"))
	}
}
