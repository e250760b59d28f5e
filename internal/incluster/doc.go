// Package incluster is a run whose shards are pods of one Indexed Job: the
// manifests of that Job, how a shard knows which it is and hands over its
// result, and how all results are fetched again.
//
//	Objects --> kubectl apply --> pods of a Job, index 0 to N-1
//	pod: Self --> run --> Publish --> ConfigMaps that the Job owns
//	user: Find --> Wait --> Fetch --> results, or why a shard has none
//
// The API server is the only thing that shards and user share: there is no
// volume, and nobody needs to get into a pod. A result is published whatever
// came out, in parts that fit a ConfigMap, and goes when the Job goes. A result
// that is not complete or not of this Job is refused, never guessed at. Results
// are not judged or merged here.
package incluster

// Labels and annotations of what a Job and its shards make.
const (
	partOf = "app.kubernetes.io/part-of"
	tool   = "meshproof"
	// jobLabel and shardLabel are on a shard's results: the Job's name, and the
	// shard's index from 1.
	jobLabel   = "meshproof.dev/job"
	shardLabel = "meshproof.dev/shard"
	// partAnnotation is which part of the result this is: 1/1. digestAnnotation
	// is the SHA-256 of all parts together.
	partAnnotation   = "meshproof.dev/part"
	digestAnnotation = "meshproof.dev/digest"
	// dataKey is where a part of the compressed run.json stands.
	dataKey = "run.json.gz"
)

// What Kubernetes tells the pods of an Indexed Job, and the variables that the
// manifests add to it.
const (
	envIndex     = "JOB_COMPLETION_INDEX"
	envJob       = "MESHPROOF_JOB"
	envUID       = "MESHPROOF_JOB_UID"
	envNamespace = "MESHPROOF_JOB_NAMESPACE"

	jobNameLabel = "batch.kubernetes.io/job-name"
	jobUIDLabel  = "batch.kubernetes.io/controller-uid"
	indexLabel   = "batch.kubernetes.io/job-completion-index"
)
