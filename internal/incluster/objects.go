package incluster

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/workloads/images"
)

// Defaults of Options.
const (
	Namespace = "meshproof"
	Name      = "meshproof"
	// Timeout is how long a Job may take before its pods are told to end.
	Timeout = time.Hour
)

const (
	// grace is what a pod gets to take back what it made and to publish what it
	// has found after it was told to end.
	grace = 120 * time.Second
	// kept is how many days a finished Job stays to be retrieved.
	kept = 7 * 24 * time.Hour
	// keptJobs is how many of a CronJob's Jobs of each kind stay: those that
	// failed are the ones to look at.
	keptJobs = 7
	// uid is any that is neither root's nor the mesh's proxy's.
	uid = images.User
	// workFolder is the only place where the program may write.
	workFolder = "/tmp"
	container  = "run"
)

// Options say what the manifests make.
type Options struct {
	// Namespace for the Job and its results, and Name of everything; empty: the
	// defaults above.
	Namespace, Name string
	// Shards is how many pods there are, at least 1.
	Shards int
	// Image with the program; empty: images.Program. Registry is put in place of
	// its host, and told to the run.
	Image, Registry string
	PullPolicy      corev1.PullPolicy
	// PullSecrets are names of Secrets in the namespace.
	PullSecrets []string
	// Args of `meshproof run` besides those that follow from the rest.
	Args []string
	// Timeout of the whole Job; 0 is the default.
	Timeout time.Duration
	// Rules are the rights that a run needs in the cluster.
	Rules []rbacv1.PolicyRule
	// Schedule makes a CronJob of the Job: five fields, in UTC unless TimeZone
	// says otherwise.
	Schedule, TimeZone string
}

// OptionError says which option is wrong.
type OptionError struct{ Option, Problem string }

func (e *OptionError) Error() string { return fmt.Sprintf("--%s: %s", e.Option, e.Problem) }

// fields of a schedule, or one of its names.
var fields = regexp.MustCompile(`^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[-0-9*/,?A-Za-z]+( +[-0-9*/,?A-Za-z]+){4})$`)

// maxName is so that names of pods and of results, which are made of it, fit.
const maxName = 40

func (o Options) complete() (Options, error) {
	if o.Namespace == "" {
		o.Namespace = Namespace
	}
	if o.Name == "" {
		o.Name = Name
	}
	if o.Image == "" {
		o.Image = images.Program
	}
	if o.PullPolicy == "" {
		o.PullPolicy = corev1.PullIfNotPresent
	}
	if o.Timeout == 0 {
		o.Timeout = Timeout
	}
	switch {
	case len(validation.IsDNS1123Label(o.Namespace)) > 0:
		return o, &OptionError{"namespace", fmt.Sprintf("%q is not the name of a namespace", o.Namespace)}
	case len(validation.IsDNS1123Label(o.Name)) > 0 || len(o.Name) > maxName:
		return o, &OptionError{"name", fmt.Sprintf("%q: want lower-case letters, digits and hyphens, at most %d", o.Name, maxName)}
	case o.Shards < 1:
		return o, &OptionError{"shards", fmt.Sprintf("%d: want 1 or more", o.Shards)}
	case o.Timeout < time.Minute:
		return o, &OptionError{"timeout", fmt.Sprintf("%s: want a minute or more", o.Timeout)}
	case o.PullPolicy != corev1.PullAlways && o.PullPolicy != corev1.PullIfNotPresent && o.PullPolicy != corev1.PullNever:
		return o, &OptionError{"image-pull-policy", fmt.Sprintf("%q: want Always, IfNotPresent or Never", o.PullPolicy)}
	case o.Schedule != "" && !fields.MatchString(o.Schedule):
		return o, &OptionError{"schedule", fmt.Sprintf("%q: want five fields, such as '0 2 * * *'", o.Schedule)}
	}
	o.Image = images.Relocate(o.Image, o.Registry)
	return o, nil
}

// Objects are what to apply, in that order. Error: *OptionError.
func Objects(options Options) ([]runtime.Object, error) {
	o, err := options.complete()
	if err != nil {
		return nil, err
	}
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: o.Name, Namespace: o.Namespace}}
	// Names of cluster-wide objects carry the namespace: there may be several.
	wide := o.Namespace + "-" + o.Name
	if o.Namespace == o.Name {
		wide = o.Name
	}
	publish := o.Name + "-publish"
	objects := []runtime.Object{
		&corev1.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: o.Namespace, Labels: map[string]string{
			partOf: tool, "pod-security.kubernetes.io/enforce": "restricted"}}},
		&corev1.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: o.meta(o.Name)},
		&rbacv1.ClusterRole{TypeMeta: kind(rbac, "ClusterRole"), ObjectMeta: metav1.ObjectMeta{Name: wide, Labels: o.labels()}, Rules: o.Rules},
		&rbacv1.ClusterRoleBinding{TypeMeta: kind(rbac, "ClusterRoleBinding"), ObjectMeta: metav1.ObjectMeta{Name: wide, Labels: o.labels()},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: wide}, Subjects: subject},
		&rbacv1.Role{TypeMeta: kind(rbac, "Role"), ObjectMeta: o.meta(publish),
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create", "update"}}}},
		&rbacv1.RoleBinding{TypeMeta: kind(rbac, "RoleBinding"), ObjectMeta: o.meta(publish),
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: publish}, Subjects: subject},
	}
	if o.Schedule == "" {
		return append(objects, &batchv1.Job{TypeMeta: kind("batch/v1", "Job"), ObjectMeta: o.meta(o.Name), Spec: o.job()}), nil
	}
	cron := &batchv1.CronJob{TypeMeta: kind("batch/v1", "CronJob"), ObjectMeta: o.meta(o.Name), Spec: batchv1.CronJobSpec{
		Schedule: o.Schedule, ConcurrencyPolicy: batchv1.ForbidConcurrent,
		SuccessfulJobsHistoryLimit: pointer(int32(keptJobs)), FailedJobsHistoryLimit: pointer(int32(keptJobs)),
		JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: o.labels()}, Spec: o.job()},
	}}
	if o.TimeZone != "" {
		cron.Spec.TimeZone = &o.TimeZone
	}
	return append(objects, cron), nil
}

const rbac = "rbac.authorization.k8s.io/v1"

func kind(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

func (o Options) labels() map[string]string {
	return map[string]string{partOf: tool, "app.kubernetes.io/name": o.Name}
}

func (o Options) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: o.Namespace, Name: name, Labels: o.labels()}
}

// job is one try for each shard: a run that has found something must not be
// repeated until it finds nothing.
func (o Options) job() batchv1.JobSpec {
	shards := int32(o.Shards)
	return batchv1.JobSpec{
		CompletionMode: pointer(batchv1.IndexedCompletion), Completions: &shards, Parallelism: &shards,
		BackoffLimitPerIndex: pointer(int32(0)), MaxFailedIndexes: &shards,
		ActiveDeadlineSeconds: pointer(int64(o.Timeout.Seconds())), TTLSecondsAfterFinished: pointer(int32(kept.Seconds())),
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: o.labels(), Annotations: map[string]string{"linkerd.io/inject": "disabled"}},
			Spec:       o.pod(),
		},
	}
}

func (o Options) pod() corev1.PodSpec {
	args := []string{"run", "--cluster", "kubeconfig", "--shard", fmt.Sprintf("auto/%d", o.Shards), "--publish"}
	if o.Registry != "" {
		args = append(args, "--registry", o.Registry)
	}
	for _, arg := range o.Args {
		args = append(args, strings.ReplaceAll(arg, "$", "$$")) // Kubernetes would take $(X) for a variable
	}
	spec := corev1.PodSpec{
		ServiceAccountName: o.Name, RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: pointer(int64(grace.Seconds())),
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: pointer(true), RunAsUser: pointer(int64(uid)), RunAsGroup: pointer(int64(uid)), FSGroup: pointer(int64(uid)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: container, Image: o.Image, ImagePullPolicy: o.PullPolicy, Args: args,
			Env: []corev1.EnvVar{
				{Name: "HOME", Value: workFolder}, {Name: "ARTIFACTS", Value: workFolder + "/artifacts"},
				fromPod(envNamespace, "metadata.namespace"),
				fromPod(envJob, "metadata.labels['"+jobNameLabel+"']"),
				fromPod(envUID, "metadata.labels['"+jobUIDLabel+"']"),
			},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: pointer(false), ReadOnlyRootFilesystem: pointer(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
			},
			// A shard that cannot begin has no result; its last words are kept.
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			VolumeMounts:             []corev1.VolumeMount{{Name: "work", MountPath: workFolder}},
		}},
		Volumes: []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	}
	for _, name := range o.PullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return spec
}

func fromPod(name, field string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: field}}}
}

func pointer[T any](value T) *T { return &value }

// Manifest writes objects as one YAML stream, without what only a server sets.
func Manifest(objects ...runtime.Object) ([]byte, error) {
	var out bytes.Buffer
	for _, object := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return nil, fmt.Errorf("print %s: %w", object.GetObjectKind().GroupVersionKind().Kind, err)
		}
		bare(content)
		text, err := yaml.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("print %s: %w", object.GetObjectKind().GroupVersionKind().Kind, err)
		}
		fmt.Fprintf(&out, "---\n%s", text)
	}
	return out.Bytes(), nil
}

// bare removes status, times of creation and what is empty but for a Volume's
// kind.
func bare(content map[string]any) {
	delete(content, "status")
	for name, value := range content {
		if name == "creationTimestamp" && value == nil {
			delete(content, name)
			continue
		}
		if child, ok := value.(map[string]any); ok {
			bare(child)
			if len(child) == 0 && name == "spec" {
				delete(content, name)
			}
		}
	}
}
