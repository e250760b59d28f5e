package scenarios

import (
	"fmt"
	"slices"

	"github.com/invopop/jsonschema"
)

// Feature is the part of policy that a claim is about: a closed set, in the
// manner of the Gateway API's conformance suite. Every claim of the library
// belongs to one; a scenario of somebody else's may do without.
type Feature string

// The features; Features tells what each is.
const (
	FeatureServer              Feature = "Server"
	FeatureServerAuthorization Feature = "ServerAuthorization"
	FeatureDefaultPolicy       Feature = "DefaultPolicy"
	FeatureProbes              Feature = "Probes"
	FeatureLiveChanges         Feature = "LiveChanges"
	FeatureDenials             Feature = "Denials"
	FeatureAuthz               Feature = "Authz"
	FeatureInjection           Feature = "Injection"
	FeatureEmojivoto           Feature = "Emojivoto"

	FeatureOpaquePorts         Feature = "OpaquePorts"
	FeatureTransportHeader     Feature = "TransportHeader"
	FeatureTLS                 Feature = "TLS"
	FeatureAuthorizationPolicy Feature = "AuthorizationPolicy"
	FeatureAuthentications     Feature = "Authentications"
	FeatureRoutes              Feature = "Routes"
	FeatureGRPCRoutes          Feature = "GRPCRoutes"
	FeatureRateLimit           Feature = "RateLimit"
	FeatureAudit               Feature = "Audit"
	FeatureAdmission           Feature = "Admission"
	FeatureStatus              Feature = "Status"
	FeatureFindings            Feature = "Findings"
	FeatureMetrics             Feature = "Metrics"
	FeatureLocalhost           Feature = "Localhost"
	FeatureAdminPort           Feature = "AdminPort"
	FeatureIdentity            Feature = "Identity"

	FeatureCluster Feature = "Cluster"
)

// Profile is a set of features. Each holds the one before it.
type Profile string

const (
	// Core is what the two source documents say.
	Core Profile = "core"
	// Extended is core and all else of the rule book.
	Extended Profile = "extended"
	// All is extended and what is claimed of the cluster and of this program.
	All Profile = "all"
)

// FeatureInfo is what is known of a feature.
type FeatureInfo struct {
	Feature Feature `json:"feature"`
	// Profile is the smallest one that holds the feature.
	Profile Profile `json:"profile"`
	// Text says in a line what the feature is about.
	Text string `json:"text"`
}

var features = []FeatureInfo{
	{FeatureServer, Core, "which pods and ports a Server selects, and that it denies until something is granted"},
	{FeatureServerAuthorization, Core, "clients by network, by mesh TLS, by identity and by ServiceAccount"},
	{FeatureDefaultPolicy, Core, "the policy of ports that no Server selects, where it is set and which setting wins"},
	{FeatureProbes, Core, "what the kubelet's probes get, with and without a Server on their port"},
	{FeatureLiveChanges, Core, "policies that come, change and go while clients call, and the loss of the controller"},
	{FeatureDenials, Core, "what a client gets that is denied, by each protocol"},
	{FeatureAuthz, Core, "the tables of who is authorized by what"},
	{FeatureInjection, Core, "how a pod gets its proxy, and what the proxy is told at its start"},
	{FeatureEmojivoto, Core, "the sample application with its sample policy, and the guide's walk through both"},

	{FeatureOpaquePorts, Extended, "ports that are not looked into: opaque protocol, opaque and skipped ports"},
	{FeatureTransportHeader, Extended, "how meshed clients come to a port, and what becomes of them where both sides read a port differently"},
	{FeatureTLS, Extended, "detection of protocols, mesh TLS and its certificates, TLS that is meant for the application"},
	{FeatureAuthorizationPolicy, Extended, "AuthorizationPolicy on Servers, namespaces and routes"},
	{FeatureAuthentications, Extended, "MeshTLSAuthentication and NetworkAuthentication, and references to them"},
	{FeatureRoutes, Extended, "HTTPRoutes of both groups on a Server: selection, precedence and filters"},
	{FeatureGRPCRoutes, Extended, "GRPCRoutes on a Server"},
	{FeatureRateLimit, Extended, "HTTPLocalRateLimitPolicy"},
	{FeatureAudit, Extended, "the policy that lets everything through and tells of it"},
	{FeatureAdmission, Extended, "which objects schema and webhook refuse"},
	{FeatureStatus, Extended, "the status of routes and rate limits, and who writes it"},
	{FeatureFindings, Extended, "what the mesh tells of objects that cannot do what they seem to"},
	{FeatureMetrics, Extended, "counters and labels of proxies and controller"},
	{FeatureLocalhost, Extended, "callers within the pod, and a pod that calls itself"},
	{FeatureAdminPort, Extended, "the proxy's own port"},
	{FeatureIdentity, Extended, "who gets which certificate, and how identities are spelt"},

	{FeatureCluster, All, "the cluster, its nodes, and this program itself"},
}

// Features lists all of them, those of the core first.
func Features() []FeatureInfo { return slices.Clone(features) }

// Profile is the smallest profile that holds the feature; All for what is no
// feature.
func (f Feature) Profile() Profile {
	for _, one := range features {
		if one.Feature == f {
			return one.Profile
		}
	}
	return All
}

// Holds reports whether the profile holds all of what one says.
func (p Profile) Holds(one Profile) bool {
	order := []Profile{Core, Extended, All}
	return slices.Index(order, one) <= slices.Index(order, p)
}

// Choice is what a run is to judge of a plan: the features of a profile, or some
// of them. The zero value is everything.
type Choice struct {
	// Profile is All when it is empty.
	Profile Profile
	// Only these, unless it is empty; and not those in Exempt.
	Only, Exempt []Feature
}

// LeftOut says why a claim of the feature is not judged; empty when it is.
func (c Choice) LeftOut(f Feature) string {
	named := fmt.Sprintf("feature %s", f)
	if f == "" {
		named = "a claim of no feature"
	}
	switch {
	case slices.Contains(c.Exempt, f):
		return named + " is exempt (--exempt-features)"
	case len(c.Only) > 0 && !slices.Contains(c.Only, f):
		return named + " is not among those asked for (--features)"
	case c.Profile != "" && !c.Profile.Holds(f.Profile()):
		return fmt.Sprintf("%s is not in profile %s (--profile)", named, c.Profile)
	}
	return ""
}

// Apply marks the claims of the plan that are left out as skipped, with the
// reason. They stay in the plan: what is not judged is counted, never dropped.
func (c Choice) Apply(plan *Plan) {
	for _, claim := range plan.Claims() {
		if why := c.LeftOut(claim.Feature); why != "" {
			claim.Skip = why
		}
	}
}

// Values lists the features.
func (Feature) Values() []string {
	var names []string
	for _, one := range features {
		names = append(names, string(one.Feature))
	}
	return names
}

// Values lists the profiles.
func (Profile) Values() []string { return of(Core, Extended, All) }

// JSONSchema is the list of the features.
func (f Feature) JSONSchema() *jsonschema.Schema { return enumSchema(f) }
