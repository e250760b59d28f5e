package objects

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// workload takes in what has pods, Namespaces and ServiceAccounts, and reports
// whether the kind is one of them.
func (r *reader) workload(o *object, gv schema.GroupVersion) bool {
	kind := gv.Group + "/" + o.Kind
	switch kind {
	case "/Namespace":
		namespace := new(corev1.Namespace)
		if r.strict(o, namespace) {
			r.set.World.Namespaces = append(r.set.World.Namespaces, namespace)
		}
	case "/ServiceAccount":
		if r.strict(o, new(corev1.ServiceAccount)) {
			r.account(o.Metadata.Namespace, o.Metadata.Name)
		}
	case "/Pod":
		pod := new(corev1.Pod)
		if r.strict(o, pod) {
			r.pods(o, "pod", pod.ObjectMeta, pod.Spec)
		}
	case "/ReplicationController":
		w := new(corev1.ReplicationController)
		if r.strict(o, w) && w.Spec.Template != nil {
			r.pods(o, "rc", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/Deployment":
		w := new(appsv1.Deployment)
		if r.strict(o, w) {
			r.pods(o, "deploy", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/StatefulSet":
		w := new(appsv1.StatefulSet)
		if r.strict(o, w) {
			r.pods(o, "sts", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/DaemonSet":
		w := new(appsv1.DaemonSet)
		if r.strict(o, w) {
			r.pods(o, "ds", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/ReplicaSet":
		w := new(appsv1.ReplicaSet)
		if r.strict(o, w) {
			r.pods(o, "rs", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "batch/Job":
		w := new(batchv1.Job)
		if r.strict(o, w) {
			r.pods(o, "job", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "batch/CronJob":
		w := new(batchv1.CronJob)
		if r.strict(o, w) {
			r.pods(o, "cronjob", w.Spec.JobTemplate.Spec.Template.ObjectMeta, w.Spec.JobTemplate.Spec.Template.Spec)
		}
	default:
		return false
	}
	return true
}

// pods adds a workload; its pod is named after it. The workload's own metadata
// says nothing about its pods (D-09).
func (r *reader) pods(o *object, kind string, meta metav1.ObjectMeta, spec corev1.PodSpec) {
	meta.Namespace, meta.Name = o.Metadata.Namespace, cmp.Or(o.Metadata.Name, o.Metadata.GenerateName)
	spec.ServiceAccountName = cmp.Or(spec.ServiceAccountName, spec.DeprecatedServiceAccount, "default")
	r.set.Workloads = append(r.set.Workloads, Workload{Kind: kind, Pod: &corev1.Pod{ObjectMeta: meta, Spec: spec}, Place: o.place})
	r.account(meta.Namespace, spec.ServiceAccountName)
}

func (r *reader) account(namespace, name string) {
	r.set.Accounts = append(r.set.Accounts, types.NamespacedName{Namespace: namespace, Name: name})
}

// collectAccounts adds the accounts that policies name, and sorts.
func (r *reader) collectAccounts() {
	w := r.set.World
	for _, a := range w.ServerAuthorizations {
		if a.Spec.Client.MeshTLS != nil {
			for _, ref := range a.Spec.Client.MeshTLS.ServiceAccounts {
				r.account(cmp.Or(ref.Namespace, a.Namespace), ref.Name)
			}
		}
	}
	for _, p := range w.AuthorizationPolicies {
		for _, ref := range p.Spec.RequiredAuthenticationRefs {
			if ref.Kind == "ServiceAccount" {
				r.account(cmp.Or(ref.Namespace, p.Namespace), ref.Name)
			}
		}
	}
	for _, a := range w.MeshTLSAuthentications {
		for _, ref := range a.Spec.IdentityRefs {
			if ref.Kind == "ServiceAccount" {
				r.account(cmp.Or(ref.Namespace, a.Namespace), ref.Name)
			}
		}
	}
	slices.SortFunc(r.set.Accounts, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	r.set.Accounts = slices.Compact(r.set.Accounts)
}
