package incluster

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Self is a pod of an Indexed Job, as it sees itself.
type Self struct {
	Namespace string
	Job       string
	UID       types.UID
	// Shard counts from 1, unlike the pod's completion index.
	Shard int
}

// ErrNoJob says that this process is no pod of an Indexed Job.
var ErrNoJob = errors.New("this is no pod of an Indexed Job")

// Index is the shard that Kubernetes has given this pod, from 1. Error: ErrNoJob
// when it has given none.
func Index(env func(string) string) (int, error) {
	text := env(envIndex)
	if text == "" {
		return 0, fmt.Errorf("%w: $%s is not set", ErrNoJob, envIndex)
	}
	index, err := strconv.Atoi(text)
	if err != nil || index < 0 {
		return 0, fmt.Errorf("%w: $%s is %q", ErrNoJob, envIndex, text)
	}
	return index + 1, nil
}

// Myself finds out from the environment which pod this is. Error: ErrNoJob.
func Myself(env func(string) string) (*Self, error) {
	shard, err := Index(env)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range []string{envNamespace, envJob, envUID} {
		if env(name) == "" {
			missing = append(missing, "$"+name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w that meshproof gen job has printed: %s is not set", ErrNoJob, strings.Join(missing, ", "))
	}
	return &Self{Namespace: env(envNamespace), Job: env(envJob), UID: types.UID(env(envUID)), Shard: shard}, nil
}

// RunID is the ID of a run that began then, made of the Job's uid: shard 0 is
// the merged run, and no two shards of a Job have the same last part, of which
// the names of their namespaces are made.
func RunID(began time.Time, job types.UID, shard int) string {
	sum := sha256.Sum256([]byte(job))
	return fmt.Sprintf("%s-%04x", began.Format("20060102-150405"), binary.BigEndian.Uint16(sum[:2])+uint16(shard))
}

// Seed is the same for all shards of a Job, and another for every Job.
func Seed(job types.UID) int64 {
	sum := sha256.Sum256([]byte(job))
	return int64(binary.BigEndian.Uint64(sum[8:16]) >> 1)
}
