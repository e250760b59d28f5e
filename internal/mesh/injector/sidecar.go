package injector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
)

// firstWithSidecars is the first Kubernetes whose init containers may stay
// without anybody having to ask for it.
var firstWithSidecars = version.MustParseGeneric("1.29.0")

// nativeSidecars asks the API server whether the cluster has them, until it
// answers or ctx ends. An older one would drop the field that makes a sidecar,
// and the pod would wait for its proxy to end.
func nativeSidecars(ctx context.Context, core rest.Interface) (bool, error) {
	var text []byte
	err := kube.Retry(ctx, "ask for the cluster's version", func(ctx context.Context) (err error) {
		text, err = core.Get().AbsPath("/version").DoRaw(ctx)
		return err
	})
	if err != nil {
		return false, err
	}
	known, err := sidecarsOf(text)
	if err != nil {
		slog.Warn("native sidecars are not used", "error", err)
	}
	return known, nil
}

// sidecarsOf reads what an API server answers at /version.
func sidecarsOf(text []byte) (bool, error) {
	var answer struct{ GitVersion string }
	if err := json.Unmarshal(text, &answer); err != nil {
		return false, fmt.Errorf("read the cluster's version: %w", err)
	}
	server, err := version.ParseGeneric(answer.GitVersion)
	if err != nil {
		return false, fmt.Errorf("read the cluster's version %q: %w", answer.GitVersion, err)
	}
	return server.AtLeast(firstWithSidecars), nil
}
