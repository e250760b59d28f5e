package objects

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// workload takes in what has pods, Namespaces and ServiceAccounts, and reports
// whether the kind is one of them.
func (o *object) workload() bool {
	switch o.group + "/" + o.kind {
	case "/Namespace":
		namespace := new(corev1.Namespace)
		if o.strict(namespace) {
			o.keep = func(r *reader) { r.set.World.Namespaces = append(r.set.World.Namespaces, namespace) }
		}
	case "/ServiceAccount":
		if o.strict(new(corev1.ServiceAccount)) {
			o.keep = func(r *reader) { r.account(o.namespace, o.name) }
		}
	case "/Pod":
		pod := new(corev1.Pod)
		if o.strict(pod) {
			o.pods("pod", pod.ObjectMeta, pod.Spec)
		}
	case "/ReplicationController":
		w := new(corev1.ReplicationController)
		if w.Spec.Template = new(corev1.PodTemplateSpec); o.strict(w) {
			o.pods("rc", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/Deployment":
		w := new(appsv1.Deployment)
		if o.strict(w) {
			o.pods("deploy", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/StatefulSet":
		w := new(appsv1.StatefulSet)
		if o.strict(w) {
			o.pods("sts", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/DaemonSet":
		w := new(appsv1.DaemonSet)
		if o.strict(w) {
			o.pods("ds", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "apps/ReplicaSet":
		w := new(appsv1.ReplicaSet)
		if o.strict(w) {
			o.pods("rs", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "batch/Job":
		w := new(batchv1.Job)
		if o.strict(w) {
			o.pods("job", w.Spec.Template.ObjectMeta, w.Spec.Template.Spec)
		}
	case "batch/CronJob":
		w := new(batchv1.CronJob)
		if o.strict(w) {
			o.pods("cronjob", w.Spec.JobTemplate.Spec.Template.ObjectMeta, w.Spec.JobTemplate.Spec.Template.Spec)
		}
	default:
		return false
	}
	return true
}

// pods adds a workload; its pod is named after it. The workload's own metadata
// says nothing about its pods (D-09).
func (o *object) pods(kind string, meta metav1.ObjectMeta, spec corev1.PodSpec) {
	meta.Namespace, meta.Name = o.namespace, cmp.Or(o.name, meta.GenerateName, "generated")
	spec.ServiceAccountName = cmp.Or(spec.ServiceAccountName, spec.DeprecatedServiceAccount, "default")
	o.keep = func(r *reader) {
		r.set.Workloads = append(r.set.Workloads, Workload{Kind: kind, Pod: &corev1.Pod{ObjectMeta: meta, Spec: spec}, Place: o.place})
		r.account(meta.Namespace, spec.ServiceAccountName)
	}
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
