package oracle

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// AccountNamer tells the identity of a ServiceAccount.
type AccountNamer = func(namespace, name string) string

// Rules are the rule functions: one field each, which holds the function of the
// same name unless somebody has put another one there. A function that finds
// whether something holds also says why, in words.
type Rules struct {
	// The pod, and what its annotations say.
	Enforced        func(*corev1.Pod, *corev1.Namespace) (bool, string)
	Bypassed        func(*corev1.Pod, *corev1.Namespace, uint16) (bool, string)
	DefaultPolicy   func(Settings, *corev1.Pod, *corev1.Namespace, api.Dialect) (api.PolicyName, string)
	RequireIdentity func(api.PolicyName, *corev1.Pod, uint16) api.PolicyName
	OpaqueByDefault func(*corev1.Pod, *corev1.Namespace, uint16, api.Dialect) (bool, string)

	// Which Server has a port.
	SameNamespace  func(*api.Server, *corev1.Pod) bool
	LabelsMatch    func(*api.LabelSelector, map[string]string) (bool, string)
	NumberSelected func(int32, *corev1.Pod, uint16, api.Dialect) (bool, string)
	NameSelected   func(string, *corev1.Pod, uint16) (bool, string)
	Precedes       func(a, b *api.Server) (bool, string)

	// What is granted to whom.
	BuiltIn           func(api.PolicyName, Settings) (Grant, bool)
	AccessPolicy      func(*api.Server) api.PolicyName
	NamesServer       func(api.ServerReference, *api.Server) (bool, string)
	GrantNetworks     func([]api.Network, Settings) []Network
	GrantClients      func(*api.ServerAuthorization, AccountNamer) (Clients, string)
	TargetsServer     func(*api.AuthorizationPolicy, *api.Server) bool
	TargetsNamespace  func(*api.AuthorizationPolicy, *api.Server) bool
	TargetsRoute      func(*api.AuthorizationPolicy, Label, string) bool
	PolicyNetworks    func(*api.AuthorizationPolicy, World) ([]Network, string)
	PolicyClients     func(*api.AuthorizationPolicy, World, AccountNamer, func(namespace string) string) (Clients, string)
	AccountIdentity   func(namespace, name string, s Settings) string
	NamespaceIdentity func(namespace string, s Settings) string
	Localhost         func() Grant
	Suffices          func(holding int) bool
	RouteList         func(route, server []Grant) []Grant

	// Whether a grant admits a client.
	NetworkHolds  func([]Network, netip.Addr) (bool, string)
	IdentityFits  func(pattern, identity string, d api.Dialect) bool
	ClientsHold   func(Clients, Session, api.Dialect, func(pattern, identity string, d api.Dialect) bool) (bool, string)
	ClientAddress func(netip.Addr) netip.Addr

	// Routes and probes.
	Attached       func(parents []api.ParentReference, group, namespace string, s *api.Server) (bool, string)
	SoundParents   func(parents []api.ParentReference, namespace string) (bool, string)
	RulesOf        func(*api.HTTPRoute) []api.HTTPRouteRule
	RouteKindFits  func(kind string, p api.ProxyProtocol) bool
	FiltersFit     func([]api.HTTPRouteFilter) (bool, string)
	Conflicts      func(*api.Server, World, func([]api.ParentReference, string, string, *api.Server) (bool, string)) (bool, string)
	RoutesReplace  func(accepted int) bool
	HTTPProbes     func(corev1.Container) []*corev1.HTTPGetAction
	ProbeNetworks  func(Settings) []Network
	ProbePort      func(intstr.IntOrString, corev1.Container) (uint16, bool)
	ProbePath      func(string) (string, bool)
	ProbesGranted  func(server bool, p api.ProxyProtocol, routes int, s Settings, d api.Dialect) (bool, string)
	HostFits       func(pattern, authority string) (length int, fits bool)
	PathFits       func(api.HTTPPathMatch, string) (length int, fits bool)
	ValueFits      func(api.HTTPValueMatch, []string) bool
	MethodFits     func(want, got string) bool
	CallFits       func(*api.GRPCMethodMatch, Request) (length int, fits bool)
	MoreSpecific   func(a, b Fit) bool
	OlderRoute     func(a, b Route) bool
	CallableMatch  func(api.GRPCRouteMatch, api.Dialect) bool
	NormalisedPath func(string, api.Dialect) (path string, clear bool)

	// The connection.
	HintsOpaque    func(opaque bool, p api.ProxyProtocol) bool
	HandshakeFails func(Client, api.ProxyProtocol) bool
	SessionOf      func(Client, api.ProxyProtocol) Session
	Transported    func(api.ProxyProtocol, bool) (Course, string)
	SilentClosed   func(Session, api.ProxyProtocol, api.Dialect) bool
	Detected       func(Request, api.Dialect) bool
	Spoken         func(api.ProxyProtocol, Request, Session, bool) (Course, string)
	OwnCall        func(Client) Client
	DirectClient   func(Client) Client

	// What is answered, and limits.
	DenialForm   func(Request) Outcome
	NotFoundForm func(Request) Outcome
	RedirectForm func(Request, *api.RequestRedirect, api.Dialect) (Outcome, int)
	AdminLocal   func(port uint16, path string, address netip.Addr) bool
	AdminSpeaks  func(port uint16) bool
	Audited      func(Label) bool
	NamedFirst   func(a, b Label) bool
	Limitable    func(api.ProxyProtocol) bool
	OlderLimit   func(a, b *api.HTTPLocalRateLimitPolicy) bool
	LimitsOf     func(*api.HTTPLocalRateLimitPolicy, string, AccountNamer) []Limit
	Counts       func(Outcome) bool

	// A series of requests under limits.
	ReplicaBucket      func(replica string) string
	Burst              func(Limit) float64
	UnidentifiedBucket func(Client) string
	OverrideBucket     func(entry int, identity string) string
	StaysTaken         func() bool
}

// DefaultRules are the rule book.
func DefaultRules() Rules {
	return Rules{
		Enforced: Enforced, Bypassed: Bypassed, DefaultPolicy: DefaultPolicy, RequireIdentity: RequireIdentity, OpaqueByDefault: OpaqueByDefault,
		SameNamespace: SameNamespace, LabelsMatch: LabelsMatch, NumberSelected: NumberSelected, NameSelected: NameSelected, Precedes: Precedes,
		BuiltIn: BuiltIn, AccessPolicy: AccessPolicy, NamesServer: NamesServer, GrantNetworks: GrantNetworks, GrantClients: GrantClients,
		TargetsServer: TargetsServer, TargetsNamespace: TargetsNamespace, TargetsRoute: TargetsRoute, PolicyNetworks: PolicyNetworks, PolicyClients: PolicyClients,
		AccountIdentity: AccountIdentity, NamespaceIdentity: NamespaceIdentity, Localhost: Localhost, Suffices: Suffices, RouteList: RouteList,
		NetworkHolds: NetworkHolds, IdentityFits: IdentityFits, ClientsHold: ClientsHold, ClientAddress: ClientAddress,
		Attached: Attached, SoundParents: SoundParents, RulesOf: RulesOf, RouteKindFits: RouteKindFits, FiltersFit: FiltersFit, Conflicts: Conflicts, RoutesReplace: RoutesReplace,
		HTTPProbes: HTTPProbes, ProbeNetworks: ProbeNetworks, ProbePort: ProbePort, ProbePath: ProbePath, ProbesGranted: ProbesGranted,
		HostFits: HostFits, PathFits: PathFits, ValueFits: ValueFits, MethodFits: MethodFits, CallFits: CallFits, MoreSpecific: MoreSpecific, OlderRoute: OlderRoute,
		CallableMatch: CallableMatch, NormalisedPath: NormalisedPath,
		HintsOpaque: HintsOpaque, HandshakeFails: HandshakeFails, SessionOf: SessionOf, Transported: Transported, SilentClosed: SilentClosed, Detected: Detected,
		Spoken: Spoken, OwnCall: OwnCall, DirectClient: DirectClient,
		DenialForm: DenialForm, NotFoundForm: NotFoundForm, RedirectForm: RedirectForm, AdminLocal: AdminLocal, AdminSpeaks: AdminSpeaks, Audited: Audited,
		NamedFirst: NamedFirst, Limitable: Limitable, OlderLimit: OlderLimit, LimitsOf: LimitsOf, Counts: Counts,
		ReplicaBucket: ReplicaBucket, Burst: Burst, UnidentifiedBucket: UnidentifiedBucket, OverrideBucket: OverrideBucket, StaysTaken: StaysTaken,
	}
}
