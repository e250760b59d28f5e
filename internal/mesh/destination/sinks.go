package destination

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// sink feeds the index with one kind; it implements kube.Sink. Each call is one
// change: a list replaces everything of its kind in one step.
type sink[T metav1.Object] struct {
	index  *Index
	set    func(T, *touched)
	remove func(key, *touched)
	// known lists what the index has of the kind.
	known func() []key
}

// Put implements kube.Sink.
func (s sink[T]) Put(object T) {
	s.index.update(func(t *touched) { s.set(object, t) })
}

// Remove implements kube.Sink.
func (s sink[T]) Remove(object T) {
	s.index.update(func(t *touched) { s.remove(keyOf(object), t) })
}

// Replace implements kube.Sink.
func (s sink[T]) Replace(objects []T) {
	s.index.update(func(t *touched) {
		there := map[key]bool{}
		for _, object := range objects {
			there[keyOf(object)] = true
		}
		for _, k := range s.known() {
			if !there[k] {
				s.remove(k, t)
			}
		}
		for _, object := range objects {
			s.set(object, t)
		}
	})
}

func keyOf(object metav1.Object) key { return key{object.GetNamespace(), object.GetName()} }

// Namespaces takes what is watched of namespaces.
func (x *Index) Namespaces() kube.Sink[*corev1.Namespace] {
	return sink[*corev1.Namespace]{x,
		func(n *corev1.Namespace, t *touched) {
			list, annotated := n.Annotations[api.OpaquePortsAnnotation]
			x.setNamespace(n.Name, list, annotated, t)
		},
		func(k key, t *touched) { x.setNamespace(k.name, "", false, t) },
		func() (all []key) {
			for name := range x.namespaces {
				all = append(all, key{"", name})
			}
			return all
		},
	}
}

// Services takes what is watched of Services.
func (x *Index) Services() kube.Sink[*corev1.Service] {
	return sink[*corev1.Service]{x,
		func(s *corev1.Service, t *touched) { x.setService(newService(s), t) },
		x.deleteService,
		func() []key { return keysOf(x.services) },
	}
}

// Pods takes what is watched of pods.
func (x *Index) Pods() kube.Sink[*corev1.Pod] {
	return sink[*corev1.Pod]{x,
		func(p *corev1.Pod, t *touched) {
			made, spec := newPod(p, x.config.ControlPlaneNamespace, x.dialect)
			x.setPod(made, spec, t)
		},
		x.deletePod,
		func() []key { return keysOf(x.pods) },
	}
}

// EndpointSlices takes what is watched of them. Their key in the index is the
// Service, which is immutable only by convention, so a slice is looked for under
// all of its namespace.
func (x *Index) EndpointSlices() kube.Sink[*discoveryv1.EndpointSlice] {
	remove := func(k key, t *touched) {
		for service := range x.slices {
			if service.namespace == k.namespace {
				x.deleteSlice(service, k.name, t)
			}
		}
	}
	return sink[*discoveryv1.EndpointSlice]{x,
		func(s *discoveryv1.EndpointSlice, t *touched) {
			made, ok := newSlice(s)
			if !ok || x.slices[made.service][made.name] == nil {
				remove(keyOf(s), t)
			}
			if ok {
				x.setSlice(made, t)
			}
		},
		remove,
		func() (all []key) {
			for service, slices := range x.slices {
				for name := range slices {
					all = append(all, key{service.namespace, name})
				}
			}
			return all
		},
	}
}

// Servers takes what is watched of Servers.
func (x *Index) Servers() kube.Sink[*unstructured.Unstructured] {
	return sink[*unstructured.Unstructured]{x,
		func(object *unstructured.Unstructured, t *touched) {
			k := keyOf(object)
			var server api.Server
			spec := index.ServerSpec{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &server); err != nil {
				spec = index.NewUnreadableServerSpec(string(object.GetUID()), object.GetCreationTimestamp().Time, err)
			} else {
				spec = index.NewServerSpec(&server)
			}
			if old, known := x.servers[k]; !known || old != server.Spec.Port.StrVal {
				x.servers[k] = server.Spec.Port.StrVal
				t.namespace(k.namespace)
			}
			x.policy.Update(func(tx *index.Tx) { tx.SetServer(k.namespace, k.name, spec) })
		},
		func(k key, _ *touched) {
			delete(x.servers, k)
			x.policy.Update(func(tx *index.Tx) { tx.DeleteServer(k.namespace, k.name) })
		},
		func() []key { return keysOf(x.servers) },
	}
}

func keysOf[T any](m map[key]T) []key {
	all := make([]key, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	return all
}
