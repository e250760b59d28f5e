package watch

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

func podAdapter(config index.Config) adapter[index.PodSpec] {
	return adapter[index.PodSpec]{
		kind: Pods,
		read: typed(func(pod *corev1.Pod) index.PodSpec { return index.NewPodSpec(pod, config.Dialect) }),
		set:  (*index.Tx).SetPod, remove: (*index.Tx).DeletePod,
	}
}

func bystanderAdapter() adapter[map[string]string] {
	return adapter[map[string]string]{
		kind: Bystanders,
		read: typed(func(pod *metav1.PartialObjectMetadata) map[string]string { return pod.Labels }),
		set:  (*index.Tx).SetBystander, remove: (*index.Tx).DeleteBystander,
	}
}

func namespaceAdapter() adapter[index.NamespaceSpec] {
	return adapter[index.NamespaceSpec]{
		kind:   Namespaces,
		read:   typed(index.NewNamespaceSpec),
		set:    func(tx *index.Tx, _, name string, spec index.NamespaceSpec) { tx.SetNamespace(name, spec) },
		remove: func(tx *index.Tx, _, name string) { tx.DeleteNamespace(name) },
	}
}

func serverAdapter() adapter[index.ServerSpec] {
	return adapter[index.ServerSpec]{
		kind: Servers, read: decode(index.NewServerSpec, index.NewUnreadableServerSpec),
		set: (*index.Tx).SetServer, remove: (*index.Tx).DeleteServer,
	}
}

func authorizationAdapter(config index.Config) adapter[index.AuthorizationSpec] {
	return adapter[index.AuthorizationSpec]{
		kind: ServerAuthorizations,
		read: decode(config.NewAuthorizationSpec, func(uid string, _ time.Time, err error) index.AuthorizationSpec {
			return index.NewUnreadableAuthorizationSpec(uid, err)
		}),
		set: (*index.Tx).SetAuthorization, remove: (*index.Tx).DeleteAuthorization,
	}
}

// accountAdapter keeps the names of ServiceAccounts alone.
func accountAdapter() adapter[struct{}] {
	return adapter[struct{}]{
		kind: ServiceAccounts,
		read: typed(func(*metav1.PartialObjectMetadata) struct{} { return struct{}{} }),
		set:  (*index.Tx).SetAccount, remove: (*index.Tx).DeleteAccount, complete: (*index.Tx).AccountsKnown,
	}
}

// typed makes a reader of any object out of one of T.
func typed[T, S any](read func(*T) S) func(any) (S, error) {
	return func(object any) (S, error) {
		t, ok := object.(*T)
		if !ok {
			var none S
			return none, fmt.Errorf("is a %T, not a %T", object, t)
		}
		return read(t), nil
	}
}
