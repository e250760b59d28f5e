package index

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// large is one namespace with the given number of pods, ten to a workload, a
// Server per workload and five authorizations per Server; one port of every pod
// is watched. Everything in one namespace is the worst case.
func large(b *testing.B, pods int) (*Index, func(n int)) {
	b.Helper()
	x := mkIndex(api.Documented(), nil)
	workload := func(i int) string { return fmt.Sprintf("app-%d", i/10) }
	x.Update(func(tx *Tx) {
		for i := range pods {
			name := fmt.Sprintf("pod-%d", i)
			tx.SetPod(ns, name, NewPodSpec(mkPod(name, labelled("app", workload(i))), x.config.Dialect))
		}
		for i := 0; i < pods; i += 10 {
			tx.SetServer(ns, workload(i), NewServerSpec(mkServer(workload(i), workload(i), intstr.FromString("grpc"))))
			for j := range 5 {
				name := fmt.Sprintf("%s-%d", workload(i), j)
				tx.SetAuthorization(ns, name, x.config.NewAuthorizationSpec(mkAuthorization(name, workload(i), anyone)))
			}
		}
	})
	for i := range pods {
		if _, err := x.Watch(ns, fmt.Sprintf("pod-%d", i), 8080); err != nil {
			b.Fatal(err)
		}
	}
	tls := api.Client{MeshTLS: &api.MeshTLS{UnauthenticatedTLS: true}}
	clients := []api.Client{anyone, tls}
	return x, func(n int) { x.apply(mkAuthorization("app-0-0", "app-0", clients[n%2])) }
}

func BenchmarkOneChangeThatTenPodsWatch(b *testing.B) {
	for _, pods := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			_, change := large(b, pods)
			for n := 0; b.Loop(); n++ {
				change(n + 1)
			}
		})
	}
}

func BenchmarkFindings(b *testing.B) {
	x, _ := large(b, 10000)
	for b.Loop() {
		x.Findings(ns)
	}
}
