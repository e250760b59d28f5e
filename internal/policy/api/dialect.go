package api

import "fmt"

// Dialect says how to read policy where the documents that the mesh was written
// after and the current behaviour of Linkerd disagree. Each field is one such
// row; true is what the documents say, so the zero value is Linkerd's own
// behaviour. Controller, proxy and judge are each handed one value and ask only
// the fields that concern them.
//
// +kubebuilder:object:generate=false
type Dialect struct {
	// DefaultFixedAtCreation: a pod keeps the default policy that was resolved
	// into its proxy container when it was created. Otherwise the annotation on
	// the pod is followed live (D-10), and a pod without one has the cluster's.
	DefaultFixedAtCreation bool
	// ProbesNeedAuthorization: on a port that a Server selects probes are granted
	// by authorizations only. Otherwise an HTTP-capable Server keeps the automatic
	// probe grant (P-06).
	ProbesNeedAuthorization bool
	// DeclaredPortsOnly: a Server's numeric port selects only pods that declare it
	// as a container port. Otherwise any number is selected.
	DeclaredPortsOnly bool
	// HoldUntilPolicy: a connection before the first policy answer waits and is
	// then refused. Otherwise the proxy's own default judges it (L-02, L-03).
	HoldUntilPolicy bool
	// InvalidRevokes: an object that cannot be understood grants nothing until it
	// is valid again. Otherwise its previous version stays in force.
	InvalidRevokes bool
	// AnyVerifiedIdentity: "*" and the authenticated policies admit every verified
	// identity. Otherwise only those in DNS form.
	AnyVerifiedIdentity bool
	// SilentIsOpaque: a plaintext client that sends nothing on a port with
	// detection is opaque after the time-out. Otherwise it is closed (T-12).
	SilentIsOpaque bool
	// GatherToDetect: bytes are gathered until the protocol is decided. Otherwise
	// the first read decides (T-21).
	GatherToDetect bool
	// QuirksRepaired: header-only gRPC matches, an unset redirect status, names in
	// opaque-ports and missing cluster networks work as the user meant. Otherwise
	// as X-58, W-21, D-15 and D-14 have it.
	QuirksRepaired bool
	// BucketsKept: rate-limit buckets outlive an unrelated update. Otherwise every
	// update refills them.
	BucketsKept bool
	// NamedCreditedFirst: of several authorizations that fit, named ones are
	// credited before built-in ones, then by name. Otherwise any.
	NamedCreditedFirst bool
	// StatusAtOnce: the status of routes follows deletions at once. Otherwise up
	// to ten seconds later (S-07).
	StatusAtOnce bool
	// PathsNormalised: a path is normalised once before routes are matched, and an
	// ambiguous one refused. Otherwise it is matched raw.
	PathsNormalised bool
	// InvalidDefaultReported: an invalid default-policy annotation is told by an
	// event on the pod. The cluster's default applies either way (D-12).
	InvalidDefaultReported bool
}

// The names of the dialects, as they are given to programs.
const (
	DialectDocumented = "documented"
	DialectLinkerd    = "linkerd"
)

// Documented is the dialect of the built-in mesh.
func Documented() Dialect {
	return Dialect{
		DefaultFixedAtCreation: true, ProbesNeedAuthorization: true, DeclaredPortsOnly: true, HoldUntilPolicy: true,
		InvalidRevokes: true, AnyVerifiedIdentity: true, SilentIsOpaque: true, GatherToDetect: true, QuirksRepaired: true,
		BucketsKept: true, NamedCreditedFirst: true, StatusAtOnce: true, PathsNormalised: true, InvalidDefaultReported: true,
	}
}

// Linkerd is the dialect of current Linkerd releases.
func Linkerd() Dialect { return Dialect{} }

// ParseDialect turns a name into its dialect.
func ParseDialect(name string) (Dialect, error) {
	switch name {
	case DialectDocumented:
		return Documented(), nil
	case DialectLinkerd:
		return Linkerd(), nil
	default:
		return Dialect{}, fmt.Errorf("dialect %q: want %q or %q", name, DialectDocumented, DialectLinkerd)
	}
}

// String is the name of d, or "custom" when it is a mixture.
func (d Dialect) String() string {
	switch d {
	case Documented():
		return DialectDocumented
	case Linkerd():
		return DialectLinkerd
	default:
		return "custom"
	}
}
