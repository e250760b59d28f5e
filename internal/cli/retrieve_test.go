package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/meshproof/meshproof/internal/incluster"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

// jobOf is a finished Job of three shards; those that are given an outcome have
// published one claim, and the others' pods have ended with exit code 3.
func jobOf(t *testing.T, outcomes map[int]string) kubernetes.Interface {
	t.Helper()
	completions, mode := int32(3), batchv1.IndexedCompletion
	client := fake.NewClientset(&batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "job", UID: "uid-1", CreationTimestamp: metav1.NewTime(time.Unix(0, 0)), Labels: map[string]string{"app.kubernetes.io/part-of": "meshproof"}},
		Spec:       batchv1.JobSpec{CompletionMode: &mode, Completions: &completions},
		Status:     batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}},
	})
	for shard := 1; shard <= 3; shard++ {
		outcome, published := outcomes[shard]
		if !published {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("pod-", shard), Labels: map[string]string{"batch.kubernetes.io/controller-uid": "uid-1"},
				Annotations: map[string]string{"batch.kubernetes.io/job-completion-index": fmt.Sprint(shard - 1)}},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Message: "meshproof: RBAC is too narrow"}}}}}}
			if _, err := client.CoreV1().Pods("ns").Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		run := runOf(incluster.RunID(time.Unix(0, 0), "uid-1", shard), fmt.Sprint("scenario-", shard), "a="+outcome)
		run.Shard = &result.Shard{Group: "uid-1", Index: shard, Count: 3, Plan: "p", Claims: 3}
		run.Conclude(nil, false)
		self := &incluster.Self{Namespace: "ns", Job: "job", UID: "uid-1", Shard: shard}
		if err := self.Publish(context.Background(), client, run); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

// quietly tells nobody.
func quietly() *ending { return &ending{github: new(bool)} }

func TestRetrieveMergesTheShardsAndEndsAsTheRunDid(t *testing.T) {
	for _, c := range []struct {
		name     string
		outcomes map[int]string
		wait     bool
		code     int
		want     string
	}{
		{"all pass", map[int]string{1: "passed", 2: "passed", 3: "passed"}, false, ExitOK, "outcome passed, exit code 0"},
		{"all pass, and the Job was awaited", map[int]string{1: "passed", 2: "passed", 3: "passed"}, true, ExitOK, "outcome passed, exit code 0"},
		{"one fails", map[int]string{1: "passed", 2: "failed", 3: "passed"}, false, ExitFinding, "2 passed, 1 failed"},
		{"one had nothing that it could judge", map[int]string{1: "passed", 2: "skipped", 3: "passed"}, false, ExitOK, "2 passed, 0 failed, 1 skipped"},
		{"one has published nothing", map[int]string{1: "passed", 3: "passed"}, false, ExitSetup,
			"shard 2 of 3 is missing: it has ended with exit code 3: meshproof: RBAC is too narrow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, talk bytes.Buffer
			r := &retrieval{namespace: "ns", wait: c.wait, timeout: time.Minute, folder: t.TempDir(), ending: quietly()}
			err := r.retrieve(context.Background(), jobOf(t, c.outcomes), IOStreams{Out: &out, Err: &talk})
			if code := exitCode(context.Background(), err); code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("exit code %d, want %d; printed %q, error %v", code, c.code, out.String(), err)
			}
			merged, err := reports.Read(filepath.Join(r.folder, "latest"))
			if err != nil {
				t.Fatal(err)
			}
			if merged.Summary.Total != len(c.outcomes) || merged.ID != incluster.RunID(time.Unix(0, 0), "uid-1", 0) {
				t.Errorf("%d claims in run %s", merged.Summary.Total, merged.ID)
			}
			for shard := range c.outcomes {
				if _, err := reports.Read(filepath.Join(r.folder, merged.ID, shardsFolder, fmt.Sprint(shard))); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestRetrieveSaysWhatThereIsNotAndLeavesNothing(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	never := jobOf(t, nil)
	job, _ := never.BatchV1().Jobs("ns").Get(context.Background(), "job", metav1.GetOptions{})
	job.Status = batchv1.JobStatus{}
	if _, err := never.BatchV1().Jobs("ns").Update(context.Background(), job, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		r      retrieval
		client kubernetes.Interface
		code   int
		want   string
	}{
		{"no shard has published", retrieval{namespace: "ns"}, jobOf(t, nil), ExitSetup, "no shard of Job ns/job has published a result: shard 1: it has ended with exit code 3"},
		{"no such Job", retrieval{namespace: "ns", name: "absent"}, jobOf(t, nil), ExitUsage, "called absent"},
		{"no such namespace", retrieval{namespace: "absent"}, jobOf(t, nil), ExitUsage, "namespace absent"},
		{"the Job does not finish", retrieval{namespace: "ns", wait: true, timeout: time.Millisecond}, never, ExitSetup, "not finished in time"},
	} {
		c.r.folder = filepath.Join(t.TempDir(), "artifacts")
		var out, talk bytes.Buffer
		err := c.r.retrieve(context.Background(), c.client, IOStreams{Out: &out, Err: &talk})
		if code := exitCode(context.Background(), err); code != c.code || err == nil || !strings.Contains(err.Error(), c.want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, printed %q, error %v", c.name, code, out.String(), err)
		}
		if _, err := os.Stat(c.r.folder); err == nil {
			t.Errorf("%s: a folder stays behind", c.name)
		}
	}
	if err := (&retrieval{namespace: "ns", wait: true, timeout: time.Minute}).retrieve(ended, never, IOStreams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}); err == nil {
		t.Error("an interruption is no error")
	}
}

func TestRetrieveNeedsAClusterThatAnswers(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n" +
		"clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: x}}]\n"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--kubeconfig", kubeconfig}, ExitSetup, "127.0.0.1:1"},
		{[]string{"--kubeconfig", kubeconfig, "--context", "absent"}, ExitUsage, `"absent"`},
		{[]string{"--kubeconfig", "absent"}, ExitUsage, "absent"},
	} {
		code, out, talk := runLine(t, append([]string{"retrieve", "--output-dir", t.TempDir()}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(talk, c.want) || strings.Count(talk, "\n") != 1 {
			t.Errorf("%v: exit code %d, printed %q, said %q", c.args, code, out, talk)
		}
	}
}
