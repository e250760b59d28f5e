package policy

// Dialect is every difference between the two readings of the rule book that
// the proxy can see, one field per row (section 19.1). The zero value is the
// `documented` reading.
type Dialect struct {
	// JudgeBeforeFirstAnswer: a connection that arrives before the controller's first answer is judged by
	// the proxy's own default (L-02, L-03). Otherwise it is held up to the discovery time-out, then refused.
	JudgeBeforeFirstAnswer bool
	// OnlyDNSIdentities: `*` and the authenticated defaults refuse SPIFFE identities.
	OnlyDNSIdentities bool
	// CloseSilentClient: a plaintext client that sends nothing on a detect port is closed after the
	// detect time-out (T-12). Otherwise its connection is opaque and judged by the Server-level list.
	CloseSilentClient bool
	// FirstReadDecides: protocol detection looks at one read (T-15, T-21). Otherwise bytes are gathered until it is decided.
	FirstReadDecides bool
	// RequireRPCMatch: a gRPC route match without rpc invalidates the message. Otherwise it matches any rpc.
	RequireRPCMatch bool
	// UnsetRedirectStatus is the status of a redirect that names none; 0 means 302 (W-21).
	UnsetRedirectStatus int
	// RawPaths: routes are matched against the path as sent. Otherwise against the path normalised once, and what stays ambiguous gets 400.
	RawPaths bool
	// ResetRateLimits: every policy message starts with full rate-limit buckets.
	ResetRateLimits bool
	// InvalidDenies: a message that is not understood denies everything (N-09). Otherwise the last good policy stays (W-22).
	InvalidDenies bool
	// AuditNeedsNetworks: without cluster networks the default `audit` is refused at start (D-14).
	AuditNeedsNetworks bool
}

// Linkerd is what current Linkerd does.
var Linkerd = Dialect{
	JudgeBeforeFirstAnswer: true,
	OnlyDNSIdentities:      true,
	CloseSilentClient:      true,
	FirstReadDecides:       true,
	RequireRPCMatch:        true,
	UnsetRedirectStatus:    301,
	RawPaths:               true,
	ResetRateLimits:        true,
	InvalidDenies:          true,
	AuditNeedsNetworks:     true,
}

// DialectByName returns the dialect called documented (also "") or linkerd.
func DialectByName(name string) (Dialect, bool) {
	switch name {
	case "", "documented":
		return Dialect{}, true
	case "linkerd":
		return Linkerd, true
	}
	return Dialect{}, false
}
