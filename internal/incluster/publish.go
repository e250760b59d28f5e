package incluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/reports/result"
)

const (
	// maxPart is how many bytes of a compressed result go into one ConfigMap,
	// which holds at most 1 MiB with everything.
	maxPart = 900 << 10
	// publishBudget is for a whole result to be handed over, with retries. It
	// is less than the pod has left after it was told to end.
	publishBudget = 30 * time.Second
)

// retries are the pauses between attempts to write one part.
var retries = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 6}

// Publish hands over the result of this shard. It goes on when ctx has ended: an
// interrupted run has a result, too. What names files of the pod is left out,
// since they end with it.
func (s *Self) Publish(ctx context.Context, client kubernetes.Interface, run *result.Run) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishBudget)
	defer cancel()
	packed, err := pack(run)
	if err != nil {
		return fmt.Errorf("publish the result of shard %d: %w", s.Shard, err)
	}
	for _, part := range s.parts(packed, maxPart) {
		if err := write(ctx, client, part); err != nil {
			return fmt.Errorf("publish the result of shard %d as ConfigMap %s/%s: %w", s.Shard, part.Namespace, part.Name, err)
		}
	}
	return nil
}

// pack compresses a result.
func pack(run *result.Run) ([]byte, error) {
	public := *run
	public.Scenarios = append([]result.Scenario(nil), run.Scenarios...)
	for i := range public.Scenarios {
		public.Scenarios[i].Bundle = ""
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if err := json.NewEncoder(zip).Encode(&public); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// parts cuts a packed result into ConfigMaps of at most size bytes of data.
func (s *Self) parts(packed []byte, size int) []*corev1.ConfigMap {
	sum := sha256.Sum256(packed)
	count := max(1, (len(packed)+size-1)/size)
	var parts []*corev1.ConfigMap
	for i := range count {
		piece := packed[i*size : min((i+1)*size, len(packed))]
		labels := maps.Clone(s.labels())
		labels[shardLabel] = fmt.Sprint(s.Shard)
		parts = append(parts, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: s.Namespace,
				Name:      fmt.Sprintf("%s-shard-%d-part-%d", s.Job, s.Shard, i+1),
				Labels:    labels,
				Annotations: map[string]string{
					partAnnotation:   fmt.Sprintf("%d/%d", i+1, count),
					digestAnnotation: hex.EncodeToString(sum[:]),
				},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: s.Job, UID: s.UID}},
			},
			BinaryData: map[string][]byte{dataKey: piece},
		})
	}
	return parts
}

func (s *Self) labels() map[string]string {
	return map[string]string{partOf: tool, jobLabel: labelValue(s.Job)}
}

// labelValue cuts what is too long for a label's value.
func labelValue(text string) string {
	if len(text) > 63 {
		return text[:63]
	}
	return text
}

// write creates a part, or replaces what an earlier pod of the same shard has
// left. What the API server refuses for good is not tried again.
func write(ctx context.Context, client kubernetes.Interface, part *corev1.ConfigMap) error {
	api := client.CoreV1().ConfigMaps(part.Namespace)
	var last error
	err := wait.ExponentialBackoffWithContext(ctx, retries, func(ctx context.Context) (bool, error) {
		_, last = api.Create(ctx, part, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(last) {
			_, last = api.Update(ctx, part, metav1.UpdateOptions{})
		}
		if apierrors.IsForbidden(last) || apierrors.IsInvalid(last) || apierrors.IsUnauthorized(last) || apierrors.IsNotFound(last) {
			return false, last
		}
		return last == nil, nil
	})
	if last != nil {
		return last
	}
	return err
}
