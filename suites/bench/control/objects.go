package control

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// Namespaces: others holds what is there besides, streams the pods that watch, all
// behind one Server.
const (
	others  = "others"
	watched = "watched"
	port    = 8080
	// perServer is how many pods and authorizations a Server has among others.
	perServer = 10
)

func config() index.Config { return index.Config{Dialect: api.Documented()} }

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name)}
}

func pod(namespace, name, app string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(namespace, name), TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	p.Labels = map[string]string{"app": app, "part-of": "all", api.ControlPlaneLabel: "linkerd"}
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: "example/app:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}, {Name: "prom", ContainerPort: 9090}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}}}}}
	return p
}

func server(namespace, name, app string) *api.Server {
	return &api.Server{ObjectMeta: meta(namespace, name), TypeMeta: metav1.TypeMeta{APIVersion: "policy.linkerd.io/v1beta3", Kind: "Server"},
		Spec: api.ServerSpec{PodSelector: &api.LabelSelector{MatchLabels: map[string]string{"app": app}}, Port: intstr.FromString("http"), ProxyProtocol: api.ProtocolHTTP1}}
}

// authorization of one network, which is what changes when it changes.
func authorization(namespace, name, server string, third int) *api.ServerAuthorization {
	a := &api.ServerAuthorization{ObjectMeta: meta(namespace, name), TypeMeta: metav1.TypeMeta{APIVersion: "policy.linkerd.io/v1beta1", Kind: "ServerAuthorization"}}
	a.Spec.Server.Name = server
	a.Spec.Client = api.Client{Unauthenticated: true, Networks: []api.Network{{CIDR: fmt.Sprintf("10.%d.%d.0/24", third>>8, third&255)}}}
	return a
}

// objects of the size, besides those of streams.
func objects(s Size, each func(object any)) {
	for i := range s.Pods {
		each(pod(others, fmt.Sprintf("pod-%d", i), fmt.Sprintf("app-%d", i*s.Servers/s.Pods)))
	}
	for i := range s.Servers {
		each(server(others, fmt.Sprintf("server-%d", i), fmt.Sprintf("app-%d", i)))
	}
	for i := range s.Authorizations {
		each(authorization(others, fmt.Sprintf("authz-%d", i), fmt.Sprintf("server-%d", i*s.Servers/s.Authorizations), i&255))
	}
}

// apply puts an object into the index as a watch would.
func apply(tx *index.Tx, object any) {
	switch o := object.(type) {
	case *corev1.Pod:
		tx.SetPod(o.Namespace, o.Name, index.NewPodSpec(o, config().Dialect))
	case *api.Server:
		tx.SetServer(o.Namespace, o.Name, index.NewServerSpec(o))
	case *api.ServerAuthorization:
		tx.SetAuthorization(o.Namespace, o.Name, config().NewAuthorizationSpec(o))
	}
}

// fill makes an index of the size.
func fill(s Size) *index.Index {
	x := index.New(config())
	x.Update(func(tx *index.Tx) { objects(s, func(o any) { apply(tx, o) }) })
	return x
}

// watchedName is the pod of stream i; groups of them have a Server each.
func watchedName(i int) string { return fmt.Sprintf("proxy-%d", i) }

// addWatched adds n pods behind one Server with five authorizations.
func addWatched(x *index.Index, namespace string, n int) {
	x.Update(func(tx *index.Tx) {
		for i := range n {
			apply(tx, pod(namespace, watchedName(i), "app"))
		}
		apply(tx, server(namespace, "server", "app"))
		for i := range 5 {
			apply(tx, authorization(namespace, fmt.Sprintf("authz-%d", i), "server", i))
		}
	})
}
