package index

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// RateLimitSpec is all that policy depends on in an HTTPLocalRateLimitPolicy.
type RateLimitSpec struct {
	UID string
	// Created orders limits of one Server (S-09).
	Created time.Time
	// Server is the one that the status says has accepted the limit, empty if it
	// has not.
	Server          string
	Total, Identity uint32
	Overrides       []RateOverride
	// Problems are what cannot be understood; what can be still holds.
	Problems Problems

	// target is the Server that the object names, and clients are the
	// ServiceAccounts. Both are for findings alone.
	target  string
	clients []mention
	// kept means that the rest is a previous version, still in force.
	kept bool
}

// NewRateLimitSpec reads an HTTPLocalRateLimitPolicy.
func (c Config) NewRateLimitSpec(policy *api.HTTPLocalRateLimitPolicy) RateLimitSpec {
	spec := RateLimitSpec{UID: string(policy.UID), Created: policy.CreationTimestamp.Time}
	ref, status := policy.Spec.TargetRef, policy.Status
	if refers(ref.Group, ref.Kind, api.Group, api.ServerKind) {
		spec.target = ref.Name
		if status.TargetRef != nil && status.TargetRef.Name == ref.Name && holds(status.Conditions, conditionAccepted) {
			spec.Server = ref.Name
		}
	} else {
		spec.Problems.add("spec.targetRef", written(ref.Group, ref.Kind)+" cannot be limited, want a Server")
	}
	if policy.Spec.Total != nil {
		spec.Total = readLimit("spec.total", policy.Spec.Total.RequestsPerSecond, &spec.Problems)
	}
	if policy.Spec.Identity != nil {
		spec.Identity = readLimit("spec.identity", policy.Spec.Identity.RequestsPerSecond, &spec.Problems)
	}
	for i, override := range policy.Spec.Overrides {
		at := fmt.Sprintf("spec.overrides[%d]", i)
		read := RateOverride{Limit: readLimit(at, override.RequestsPerSecond, &spec.Problems)}
		for j, client := range override.ClientRefs {
			field := fmt.Sprintf("%s.clientRefs[%d]", at, j)
			switch {
			case !refers(client.Group, client.Kind, "", api.ServiceAccountKind):
				spec.Problems.add(field, written(client.Group, client.Kind)+" is no client, want a ServiceAccount")
			case client.Name == "":
				spec.Problems.add(field+".name", "is empty")
			default:
				account := mention{api.ServiceAccountKind, orOwn(client.Namespace, policy.Namespace), client.Name}
				read.Identities = append(read.Identities, c.serviceAccountIdentity(account.namespace, account.name))
				spec.clients = append(spec.clients, account)
			}
		}
		slices.Sort(read.Identities)
		read.Identities = slices.Compact(read.Identities)
		if read.Limit > 0 && len(read.Identities) > 0 {
			spec.Overrides = append(spec.Overrides, read)
		}
	}
	spec.clients = distinct(spec.clients)
	return spec
}

// NewUnreadableRateLimitSpec stands for an object whose fields have other types
// than they should.
func NewUnreadableRateLimitSpec(uid string, created time.Time, err error) RateLimitSpec {
	return RateLimitSpec{UID: uid, Created: created, Problems: Problems{{"spec", err.Error()}}}
}

// inForce is what counts of an object whose previous version, if any, counted as
// old. What can be understood of it counts, so that a mistake in one limit lifts
// no other; in Linkerd's dialect its previous version stays as it was.
func (s RateLimitSpec) inForce(old *RateLimitSpec, dialect api.Dialect) RateLimitSpec {
	if len(s.Problems) == 0 || dialect.InvalidRevokes {
		return s
	}
	kept := RateLimitSpec{UID: s.UID, Created: s.Created}
	if old != nil && old.understood() {
		kept = *old
		kept.kept = true
	}
	kept.Problems, kept.target, kept.clients = s.Problems, s.target, s.clients
	return kept
}

// understood reports whether the object, or a version of it that is kept, can be
// used.
func (s *RateLimitSpec) understood() bool { return len(s.Problems) == 0 || s.kept }

// before orders the limits of one Server: the older one holds, then the one whose
// name sorts first (S-09).
func (s *RateLimitSpec) before(name string, other *RateLimitSpec, otherName string) bool {
	if !s.Created.Equal(other.Created) {
		return s.Created.Before(other.Created)
	}
	return name < otherName
}

// limit is what proxies are told, nil if nothing is limited.
func (s *RateLimitSpec) limit(name string) *RateLimit {
	if s.Total == 0 && s.Identity == 0 && len(s.Overrides) == 0 {
		return nil
	}
	return &RateLimit{Reference: Reference{RateLimitPolicy, name}, Total: s.Total, Identity: s.Identity, Overrides: s.Overrides}
}

func readLimit(field string, perSecond int64, problems *Problems) uint32 {
	if perSecond < 1 {
		problems.add(field+".requestsPerSecond", fmt.Sprintf("%d is no limit, want at least 1", perSecond))
		return 0
	}
	return uint32(min(perSecond, math.MaxUint32))
}
