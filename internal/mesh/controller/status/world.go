package status

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Key names an object that has a status.
type Key struct {
	Resource schema.GroupVersionResource
	types.NamespacedName
}

// World is all that statuses follow from. The watches fill it, and the answers to
// our own patches.
type World struct {
	Servers map[types.NamespacedName]bool
	Routes  map[Key]Route
	Limits  map[Key]Limit
}

// Route is what counts of a route.
type Route struct {
	Generation int64
	// Version is the resourceVersion that the rest was read from.
	Version string
	Parents []api.ParentReference
	// Own are the parent statuses that we wrote, Foreign those of others, exactly
	// as they stand.
	Own     []api.RouteParentStatus
	Foreign []any
}

// Limit is what counts of a rate limit.
type Limit struct {
	Generation int64
	Version    string
	Created    time.Time
	Target     api.LocalTargetReference
	// Conditions are all that stand there, About is the target they tell of.
	Conditions []metav1.Condition
	About      *api.LocalTargetReference
}

func newWorld() World {
	return World{Servers: map[types.NamespacedName]bool{}, Routes: map[Key]Route{}, Limits: map[Key]Limit{}}
}
