package watch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Kind names a watched kind by its resource, with the group where two have one of
// that name.
type Kind string

// The watched kinds that policy depends on.
const (
	Pods                       Kind = "pods"
	Namespaces                 Kind = "namespaces"
	Servers                    Kind = "servers"
	ServerAuthorizations       Kind = "serverauthorizations"
	AuthorizationPolicies      Kind = "authorizationpolicies"
	MeshTLSAuthentications     Kind = "meshtlsauthentications"
	NetworkAuthentications     Kind = "networkauthentications"
	HTTPRoutes                 Kind = "httproutes"
	GatewayHTTPRoutes          Kind = "httproutes." + api.GatewayGroup
	GatewayGRPCRoutes          Kind = "grpcroutes." + api.GatewayGroup
	HTTPLocalRateLimitPolicies Kind = "httplocalratelimitpolicies"
)

// Kinds lists them.
func Kinds() []Kind {
	return []Kind{
		Pods, Namespaces, Servers, ServerAuthorizations, AuthorizationPolicies, MeshTLSAuthentications, NetworkAuthentications,
		HTTPRoutes, GatewayHTTPRoutes, GatewayGRPCRoutes, HTTPLocalRateLimitPolicies,
	}
}

// The kinds that are no part of any policy and have no mark: they tell of objects
// that do not do what they seem to.
const (
	// Bystanders are pods without a proxy.
	Bystanders      Kind = "bystanders"
	ServiceAccounts Kind = "serviceaccounts"
)

// Marks holds the high-water mark of each kind: the highest resourceVersion that
// the index has taken, since its last list. The zero value is ready for use.
//
// resourceVersions are opaque by contract, but decimal and growing in every API
// server that stores in etcd; here they are compared as numbers.
type Marks struct {
	mu    sync.Mutex
	marks map[Kind]uint64
	// moved is closed and replaced whenever a mark rises.
	moved chan struct{}
}

// Observe raises the mark of kind. A version that is no number is an error and
// changes nothing.
func (m *Marks) Observe(kind Kind, resourceVersion string) error {
	version, err := ParseVersion(resourceVersion)
	if err != nil {
		return fmt.Errorf("mark %s: %w", kind, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if version > m.marks[kind] {
		m.set(kind, version)
	}
	return nil
}

// relisted sets the mark of kind to the version of a list, which may be lower: then
// back is true.
func (m *Marks) relisted(kind Kind, resourceVersion string) (back bool, err error) {
	version, err := ParseVersion(resourceVersion)
	if err != nil {
		return false, fmt.Errorf("mark %s: %w", kind, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if version != m.marks[kind] {
		back = version < m.marks[kind]
		m.set(kind, version)
	}
	return back, nil
}

// set moves a mark; m.mu is held.
func (m *Marks) set(kind Kind, version uint64) {
	if m.marks == nil {
		m.marks = map[Kind]uint64{}
	}
	m.marks[kind] = version
	if m.moved != nil {
		close(m.moved)
		m.moved = nil
	}
}

// Seen returns all marks.
func (m *Marks) Seen() map[Kind]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.marks)
}

// Await returns when every kind in least has reached its version, or with the
// context's error.
func (m *Marks) Await(ctx context.Context, least map[Kind]uint64) error {
	for {
		behind, moved := m.behind(least)
		if len(behind) == 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("await %v: %w", behind, ctx.Err())
		}
	}
}

// behind lists the kinds that have not reached their version, and what tells
// that one has moved.
func (m *Marks) behind(least map[Kind]uint64) ([]Kind, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var behind []Kind
	for kind, version := range least {
		if m.marks[kind] < version {
			behind = append(behind, kind)
		}
	}
	slices.Sort(behind)
	if m.moved == nil {
		m.moved = make(chan struct{})
	}
	return behind, m.moved
}

// ParseVersion reads a resourceVersion as a number.
func ParseVersion(resourceVersion string) (uint64, error) {
	version, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resourceVersion %q is not a number", resourceVersion)
	}
	return version, nil
}
