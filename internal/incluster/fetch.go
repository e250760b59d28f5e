package incluster

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

// maxResult bounds what a result may unpack to: whoever may write ConfigMaps in
// the namespace could otherwise fill the reader's memory.
const maxResult = 512 << 20

// Shards is how many shards the Job has.
func Shards(job *batchv1.Job) int {
	if job.Spec.Completions == nil {
		return 0
	}
	return int(*job.Spec.Completions)
}

// Fetch reads the results that the Job's shards have published, by shard. A
// shard without one is not in the map; one whose result cannot be used is in
// the error, beside the results that can.
func Fetch(ctx context.Context, client kubernetes.Interface, job *batchv1.Job) (map[int]*result.Run, error) {
	selector := labels.SelectorFromSet((&Self{Job: job.Name}).labels()).String()
	list, err := client.CoreV1().ConfigMaps(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list the results in namespace %s: %w", job.Namespace, err)
	}
	parts := map[int][]*corev1.ConfigMap{}
	for i := range list.Items {
		part := &list.Items[i]
		if !owned(part, job.UID) {
			continue // of an earlier Job of that name
		}
		var shard int
		if _, err := fmt.Sscanf(part.Labels[shardLabel], "%d", &shard); err != nil {
			continue
		}
		parts[shard] = append(parts[shard], part)
	}
	runs := map[int]*result.Run{}
	var errs []error
	for shard, pieces := range parts {
		run, err := assemble(pieces)
		if err == nil && (run.Shard == nil || run.Shard.Index != shard) {
			err = errors.New("it is another shard's")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("the result of shard %d cannot be used: %w", shard, err))
			continue
		}
		runs[shard] = run
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return runs, errors.Join(errs...)
}

func owned(part *corev1.ConfigMap, uid types.UID) bool {
	return slices.ContainsFunc(part.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == uid })
}

// assemble puts the parts of a result together, and checks that they are all
// there and belong together.
func assemble(pieces []*corev1.ConfigMap) (*result.Run, error) {
	digest := pieces[0].Annotations[digestAnnotation]
	var count int
	at := map[int][]byte{}
	for _, piece := range pieces {
		var i, n int
		if _, err := fmt.Sscanf(piece.Annotations[partAnnotation], "%d/%d", &i, &n); err != nil || i < 1 || i > n {
			return nil, fmt.Errorf("ConfigMap %s says it is part %q", piece.Name, piece.Annotations[partAnnotation])
		}
		if piece.Annotations[digestAnnotation] != digest || count != 0 && n != count {
			return nil, errors.New("its parts are of different results")
		}
		count, at[i] = n, piece.BinaryData[dataKey]
	}
	var packed []byte
	for i := 1; i <= count; i++ {
		if at[i] == nil {
			return nil, fmt.Errorf("part %d of %d is missing", i, count)
		}
		packed = append(packed, at[i]...)
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != digest {
		return nil, errors.New("its digest is wrong")
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack it: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(zip, maxResult))
	if err != nil {
		return nil, fmt.Errorf("unpack it: %w", err)
	}
	return reports.Parse("what was published", text)
}
