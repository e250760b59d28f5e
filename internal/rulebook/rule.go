package rulebook

import (
	"slices"
	"strings"

	"github.com/meshproof/meshproof/scenarios"
)

// Rule is one statement of how the mesh behaves.
type Rule struct {
	// ID is a letter and two digits, such as X-31.
	ID string `json:"id"`
	// Text says in a line what the rule says.
	Text    string            `json:"text"`
	Feature scenarios.Feature `json:"feature"`
	// OutOfScope is the reason why nobody shows the rule; empty for those in scope.
	OutOfScope string `json:"outOfScope,omitempty"`
	// Unseen is the reason why no claim can show the rule: nothing of it can be
	// seen from outside. Then the Tests do.
	Unseen string `json:"unseen,omitempty"`
	// Tests are Go tests that show the rule, each as package.TestName[/subtest]
	// with the package's folder, such as internal/authz.TestRowsAreSorted.
	Tests []string `json:"tests,omitempty"`
}

// Section is a part of the rule book.
type Section struct {
	Title string `json:"title"`
	Rules []Rule `json:"rules"`
}

// Sections lists the whole catalogue in the order of the rule book.
func Sections() []Section {
	return []Section{
		{"Resource types", resources}, {"Admission", admission}, {"Status", status}, {"Default policies and annotations", defaults},
		{"Labels and metrics", metrics}, {"Selection and combination", selection}, {"Identities", identities}, {"Probes", probes},
		{"Acceptance, detection and TLS", acceptance}, {"Requests and routes", requests}, {"Denials", denials}, {"Rate limits", rateLimits},
		{"Live changes", liveChanges}, {"Localhost, own Service, admin port", local}, {"Policy API", policyAPI},
		{"Identity service and start of a proxy", bootstrap}, {"Command line", commands}, {"Sample application", sample},
	}
}

// Rules lists all rules, in scope or not.
func Rules() []Rule {
	var all []Rule
	for _, section := range Sections() {
		all = append(all, section.Rules...)
	}
	return all
}

// Known reports whether an ID is that of a rule or of a statement of the
// documents (DOC-nn).
func Known(id string) bool {
	if strings.HasPrefix(id, "DOC-") {
		for n := range scenarios.Statements {
			if scenarios.Statement(n+1) == id {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(Rules(), func(r Rule) bool { return r.ID == id })
}

// rule makes one that claims show.
func rule(id string, feature scenarios.Feature, text string) Rule {
	return Rule{ID: id, Text: text, Feature: feature}
}

// out makes one that is out of scope.
func (r Rule) out(why string) Rule {
	r.OutOfScope = why
	return r
}

// unseen makes one that tests show instead of claims, because nothing can be
// seen from outside.
func (r Rule) unseen(why string, tests ...string) Rule {
	r.Unseen, r.Tests = why, tests
	return r
}

// and names tests that show the rule beside its claims.
func (r Rule) and(tests ...string) Rule {
	r.Tests = append(r.Tests, tests...)
	return r
}

// Short names of the features for the tables.
const (
	server              = scenarios.FeatureServer
	serverAuthorization = scenarios.FeatureServerAuthorization
	defaultPolicy       = scenarios.FeatureDefaultPolicy
	probing             = scenarios.FeatureProbes
	live                = scenarios.FeatureLiveChanges
	denial              = scenarios.FeatureDenials
	authz               = scenarios.FeatureAuthz
	injection           = scenarios.FeatureInjection
	emojivoto           = scenarios.FeatureEmojivoto
	opaquePorts         = scenarios.FeatureOpaquePorts
	transportHeader     = scenarios.FeatureTransportHeader
	tls                 = scenarios.FeatureTLS
	authorizationPolicy = scenarios.FeatureAuthorizationPolicy
	authentications     = scenarios.FeatureAuthentications
	routes              = scenarios.FeatureRoutes
	grpcRoutes          = scenarios.FeatureGRPCRoutes
	rateLimit           = scenarios.FeatureRateLimit
	audit               = scenarios.FeatureAudit
	admitting           = scenarios.FeatureAdmission
	statuses            = scenarios.FeatureStatus
	findings            = scenarios.FeatureFindings
	counting            = scenarios.FeatureMetrics
	localhost           = scenarios.FeatureLocalhost
	adminPort           = scenarios.FeatureAdminPort
	identity            = scenarios.FeatureIdentity
)

// Why nothing can be seen from outside.
const (
	onTheWire = "it is how controller and proxies speak with each other; callers meet only what follows from it"
	certified = "it is how proxies and issuer speak with each other; callers meet only the certificate that comes of it"
	printed   = "claims compare the rows, and not how a command prints them"
	told      = "it is how the injector speaks to the proxy it adds; callers meet only what follows from it"
)

// Where the tests are that several rules name.
const (
	answers     = "internal/mesh/controller/inbound."
	readings    = "internal/mesh/proxy/policy."
	serving     = "internal/mesh/proxy/inbound."
	starting    = "internal/mesh/proxy."
	injected    = "internal/mesh/injector."
	proving     = "internal/mesh/identity."
	issuing     = "internal/mesh/identity/issuer."
	writing     = "internal/mesh/controller/status."
	indexing    = "internal/mesh/controller/index."
	controlling = "internal/mesh/controller."

	messages = answers + "TestMessagesAreAsTheWireHasThem"
	shapes   = readings + "TestEveryShapeOfAMessageIsUnderstoodOrRefused"
	taken    = serving + "TestEveryShapeOfAMessageIsTakenOffTheWire"
)

// Why rules are out of scope.
const (
	egress    = "it is about traffic that leaves the cluster; this mesh polices what comes in"
	outbound  = "it is about what clients' proxies do with Services, not about inbound policy"
	gateways  = "multicluster gateways are not part of this mesh"
	externals = "workloads outside the cluster are not part of this mesh"
	foreign   = "it describes commands of another program; ours are documented by themselves"
	unasked   = "the built-in proxy gets its certificate from the identity service alone; clients of SPIFFE identities are proven all the same (X-74)"
	upstream  = "it is a flaw of another version of the sample application than the one that is built in"
)
