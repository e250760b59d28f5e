package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// Config is the proxy's environment, read once (section 14, K-01 to K-07).
type Config struct {
	// Listen addresses. Control is accepted for the injector's sake and not served.
	Inbound, Outbound, Admin, Control, Observe netip.AddrPort

	DefaultPolicy string
	// Ports are watched from start; OpaquePorts are opaque before the first answer, in dialect linkerd only.
	Ports, OpaquePorts []uint16
	DetectTimeout      time.Duration
	// PolicyIdle is how long a port that is not in Ports is watched without a
	// connection (L-01, D-20); 0 means the default.
	PolicyIdle time.Duration
	// IPs of the pod; empty means any.
	IPs         []netip.Addr
	MaxInFlight int64

	PolicyAddr, PolicyName, Workload string
	ClusterNetworks                  []netip.Prefix

	// DestinationAddr is empty when the pod has no outbound proxy to run.
	DestinationAddr, DestinationName, DestinationContext string

	IdentityAddr, IdentityName, IdentityDir, TokenFile, LocalName string
	TrustAnchors                                                  string
	MinRefresh, MaxRefresh                                        time.Duration

	SocketMark  int
	DialectName string
	Dialect     policy.Dialect

	// Listener and OriginalDst stand in for the redirection where there is none:
	// see Standalone. The environment cannot set them.
	Listener    net.Listener
	OriginalDst func(*net.TCPConn) (netip.AddrPort, error)
}

const (
	prefix   = "LINKERD2_PROXY_"
	maxPorts = 1 << 16
)

// environment reads variables and collects one error per bad one.
type environment struct {
	lookup func(string) (string, bool)
	errs   []error
}

// ReadConfig reads the environment. Every value that cannot be used is named in the error, one line each.
func ReadConfig(lookup func(string) (string, bool)) (Config, error) {
	env := &environment{lookup: lookup}
	c := Config{
		Inbound:  env.addrPort(prefix+"INBOUND_LISTEN_ADDR", "0.0.0.0:4143"),
		Outbound: env.addrPort(prefix+"OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140"),
		Admin:    env.addrPort(prefix+"ADMIN_LISTEN_ADDR", "0.0.0.0:4191"),
		Control:  env.addrPort(prefix+"CONTROL_LISTEN_ADDR", "0.0.0.0:4190"),
		Observe:  env.addrPort("MESHPROOF_PROXY_OBSERVE_ADDR", "127.0.0.1:4192"),

		DefaultPolicy: env.text(prefix+"INBOUND_DEFAULT_POLICY", "all-unauthenticated"),
		Ports:         env.ports(prefix + "INBOUND_PORTS"),
		OpaquePorts:   env.ports(prefix + "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"),
		DetectTimeout: env.duration(prefix+"INBOUND_DETECT_TIMEOUT", 0),
		PolicyIdle:    env.duration(prefix+"INBOUND_DISCOVERY_IDLE_TIMEOUT", 0),
		IPs:           env.addrs(prefix + "INBOUND_IPS"),
		MaxInFlight:   env.number(prefix+"INBOUND_MAX_IN_FLIGHT", 0),

		PolicyAddr:      env.hostPort(prefix+"POLICY_SVC_ADDR", true),
		Workload:        env.workload(prefix + "POLICY_WORKLOAD"),
		ClusterNetworks: env.networks(prefix + "POLICY_CLUSTER_NETWORKS"),

		DestinationAddr:    env.hostPort(prefix+"DESTINATION_SVC_ADDR", false),
		DestinationContext: env.text(prefix+"DESTINATION_CONTEXT", ""),

		IdentityAddr: env.hostPort(prefix+"IDENTITY_SVC_ADDR", true),
		IdentityDir:  env.text(prefix+"IDENTITY_DIR", ""),
		TokenFile:    env.required(prefix + "IDENTITY_TOKEN_FILE"),
		TrustAnchors: env.required(prefix + "IDENTITY_TRUST_ANCHORS"),
		LocalName:    env.localName(),
		MinRefresh:   env.duration(prefix+"IDENTITY_MIN_REFRESH", 0),
		MaxRefresh:   env.duration(prefix+"IDENTITY_MAX_REFRESH", 0),

		SocketMark:  int(env.number("MESHPROOF_PROXY_SOCKET_MARK", 0)),
		DialectName: env.text("MESHPROOF_DIALECT", "documented"),
	}
	c.PolicyName = env.serverName(prefix+"POLICY_SVC_NAME", c.PolicyAddr)
	c.IdentityName = env.required(prefix + "IDENTITY_SVC_NAME") // its TLS is never left out
	if c.DestinationAddr != "" {
		c.DestinationName = env.serverName(prefix+"DESTINATION_SVC_NAME", c.DestinationAddr)
	}
	if v, ok := env.get(prefix + "IDENTITY_DISABLED"); ok && v != "" {
		env.fail(prefix+"IDENTITY_DISABLED", v, "identity cannot be disabled")
	}
	var ok bool
	if c.Dialect, ok = policy.DialectByName(c.DialectName); !ok {
		env.fail("MESHPROOF_DIALECT", c.DialectName, "want documented or linkerd")
	}
	if !slices.Contains(policy.Defaults, c.DefaultPolicy) {
		env.fail(prefix+"INBOUND_DEFAULT_POLICY", c.DefaultPolicy, fmt.Sprintf("want one of %v", policy.Defaults))
	} else if _, err := c.fallback(false); err != nil && c.Dialect.JudgeBeforeFirstAnswer {
		env.fail(prefix+"INBOUND_DEFAULT_POLICY", c.DefaultPolicy, err.Error())
	}
	if !c.Observe.Addr().IsLoopback() {
		env.fail("MESHPROOF_PROXY_OBSERVE_ADDR", c.Observe.String(), "want a loopback address")
	}
	return c, errors.Join(env.errs...)
}

// fallback is what a port is judged by before the first answer, in dialect linkerd (L-02 to L-04).
func (c *Config) fallback(opaque bool) (*policy.Port, error) {
	detect := c.DetectTimeout
	if detect == 0 {
		detect = defaultDetect
	}
	return policy.DefaultPort(c.DefaultPolicy, c.ClusterNetworks, opaque, detect, c.Dialect)
}

func (e *environment) fail(name, value, why string) {
	const longest = 80
	if len(value) > longest {
		value = value[:longest] + "..."
	}
	e.errs = append(e.errs, fmt.Errorf("%s=%q: %s", name, value, why))
}

func (e *environment) get(name string) (string, bool) {
	v, ok := e.lookup(name)
	return strings.TrimSpace(v), ok
}

func (e *environment) text(name, fallback string) string {
	if v, ok := e.get(name); ok && v != "" {
		return v
	}
	return fallback
}

func (e *environment) required(name string) string {
	v := e.text(name, "")
	if v == "" {
		e.fail(name, "", "must be set")
	}
	return v
}

func (e *environment) addrPort(name, fallback string) netip.AddrPort {
	v := e.text(name, fallback)
	addr, err := netip.ParseAddrPort(v)
	if err != nil {
		e.fail(name, v, "want ip:port")
	}
	return addr
}

// hostPort reads the address of a control plane service.
func (e *environment) hostPort(name string, required bool) string {
	v := e.text(name, "")
	if v == "" {
		if required {
			e.fail(name, v, "must be set")
		}
		return ""
	}
	host, port, err := net.SplitHostPort(v)
	if n, convErr := strconv.Atoi(port); err != nil || host == "" || convErr != nil || n < 1 || n >= maxPorts {
		e.fail(name, v, "want host:port")
	}
	return v
}

// serverName reads the identity a service must prove; a loopback service speaks without TLS (K-07).
func (e *environment) serverName(name, address string) string {
	v := e.text(name, "")
	if v == "" && address != "" && !isLoopback(address) {
		e.fail(name, v, "must be set, as the service is not on a loopback address")
	}
	return v
}

// localName reads the identity to be certified for: the local name, or server id
// and server name, which must be the same (K-01).
func (e *environment) localName() string {
	const local, id, name = prefix + "IDENTITY_LOCAL_NAME", prefix + "IDENTITY_SERVER_ID", prefix + "IDENTITY_SERVER_NAME"
	asID, asName := e.text(id, ""), e.text(name, "")
	if asID == "" && asName == "" {
		return e.required(local)
	}
	v := e.text(local, asID)
	if v != asID || v != asName {
		e.fail(id, asID, fmt.Sprintf("want the same as %s and, where it is set, %s", name, local))
	}
	return v
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (e *environment) duration(name string, fallback time.Duration) time.Duration {
	v := e.text(name, "")
	if v == "" {
		return fallback
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		e.fail(name, v, "want a duration such as 10s")
	}
	return d
}

func (e *environment) number(name string, fallback int64) int64 {
	v := e.text(name, "")
	if v == "" {
		return fallback
	}
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil || n < 0 {
		e.fail(name, v, "want a number that is not negative")
	}
	return n
}

// list splits at commas, ignoring empty entries.
func (e *environment) list(name string) []string {
	var parts []string
	for part := range strings.SplitSeq(e.text(name, ""), ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// ports reads numbers and ranges a-b.
func (e *environment) ports(name string) []uint16 {
	var ports []uint16
	for _, part := range e.list(name) {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, errFrom := strconv.ParseUint(low, 10, 16)
		to, errTo := strconv.ParseUint(high, 10, 16)
		if errFrom != nil || errTo != nil || from == 0 || to < from {
			e.fail(name, part, "want a port or a range of ports")
			continue
		}
		for port := from; port <= to; port++ {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

func (e *environment) addrs(name string) []netip.Addr {
	var addrs []netip.Addr
	for _, part := range e.list(name) {
		addr, err := netip.ParseAddr(part)
		if err != nil {
			e.fail(name, part, "want IP addresses")
			continue
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs
}

func (e *environment) networks(name string) []netip.Prefix {
	var networks []netip.Prefix
	for _, part := range e.list(name) {
		network, err := netip.ParsePrefix(part)
		if err != nil {
			e.fail(name, part, "want networks such as 10.0.0.0/8")
			continue
		}
		networks = append(networks, network.Masked())
	}
	return networks
}

// workload reads ns:pod or the JSON form (W-02), as the controller will.
func (e *environment) workload(name string) string {
	v := e.required(name)
	if v == "" {
		return v
	}
	if strings.HasPrefix(v, "{") {
		var w struct {
			Namespace string `json:"ns"`
			Pod       string `json:"pod"`
			External  string `json:"external_workload"`
		}
		if err := json.Unmarshal([]byte(v), &w); err != nil || w.Namespace == "" || w.Pod == "" && w.External == "" {
			e.fail(name, v, `want {"ns":"...","pod":"..."}`)
		}
		return v
	}
	if ns, pod, ok := strings.Cut(v, ":"); !ok || ns == "" || pod == "" {
		e.fail(name, v, "want ns:pod")
	}
	return v
}
