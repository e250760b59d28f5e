package outbound

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	pbnet "github.com/linkerd/linkerd2-proxy-api/go/net"
)

const (
	// firstPenalty is how long an endpoint that could not be reached is passed
	// over while there are others; it doubles up to lastPenalty.
	firstPenalty = 500 * time.Millisecond
	lastPenalty  = 10 * time.Second
)

// Ports of a meshed pod that its proxy serves itself: they are dialled directly,
// as they are not redirected.
const (
	controlPort = 4190
	adminPort   = 4191
)

// endpointMeta is what the destination service tells of an endpoint. When any of
// it changes, the endpoint is another one (T-36).
type endpointMeta struct {
	addr netip.AddrPort
	// identity the endpoint must prove; "" when it is reached in the clear, and
	// reason then says why.
	identity string
	reason   string
	// sni is the name it is asked for by.
	sni string
	// inboundPort is the proxy port that understands transport headers, 0 for
	// none: the target port is then dialled with TLS.
	inboundPort uint16
	// http2 means HTTP/1 may be carried over HTTP/2 to it (H-01).
	http2 bool
	// own means that it is a port of this pod before which its proxy stands.
	own bool
	// opaque means sessions are not named in the transport header.
	opaque bool
	// labels are the values of dstLabels.
	labels [len(dstLabels)]string
}

// Why an endpoint is reached in the clear, as metrics name it.
const (
	reasonLoopback  = "loopback"
	reasonNotMeshed = "not_provided_by_service_discovery"
)

// parseEndpoint reads one address of the destination service; labels are those
// of the whole set. ok is false when the address is unusable.
func (p *Proxy) parseEndpoint(a *pb.WeightedAddr, labels map[string]string) (m endpointMeta, ok bool) {
	if m.addr, ok = parseAddr(a.GetAddr()); !ok {
		return m, false
	}
	for i, name := range dstLabels {
		if m.labels[i] = a.GetMetricLabels()[name]; m.labels[i] == "" {
			m.labels[i] = labels[name]
		}
	}
	if p.isLocal(m.addr.Addr()) {
		// Without it the proxy does not see the port, or serves it itself.
		m.reason, m.own = reasonLoopback, a.GetProtocolHint().GetOpaqueTransport() != nil
		return m, true
	}
	switch tls := a.GetTlsIdentity(); strategy := tls.GetStrategy().(type) {
	case *pb.TlsIdentity_DnsLikeIdentity_:
		m.identity = strategy.DnsLikeIdentity.GetName()
		m.sni = m.identity
	case *pb.TlsIdentity_UriLikeIdentity_:
		m.identity = strategy.UriLikeIdentity.GetUri()
	default:
		m.reason = reasonNotMeshed
		return m, true
	}
	if name := a.GetTlsIdentity().GetServerName().GetName(); name != "" {
		m.sni = name
	}
	hint := a.GetProtocolHint()
	_, m.http2 = hint.GetProtocol().(*pb.ProtocolHint_H2_)
	_, m.opaque = hint.GetProtocol().(*pb.ProtocolHint_Opaque_)
	if port := hint.GetOpaqueTransport().GetInboundPort(); port > 0 && port <= 65535 &&
		m.addr.Port() != controlPort && m.addr.Port() != adminPort {
		m.inboundPort = uint16(port)
	}
	return m, true
}

func parseAddr(a *pbnet.TcpAddress) (netip.AddrPort, bool) {
	var ip netip.Addr
	switch v := a.GetIp().GetIp().(type) {
	case *pbnet.IPAddress_Ipv4:
		n := v.Ipv4
		ip = netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	case *pbnet.IPAddress_Ipv6:
		var b [16]byte
		for i := range 8 {
			b[i] = byte(v.Ipv6.GetFirst() >> (56 - 8*i))
			b[8+i] = byte(v.Ipv6.GetLast() >> (56 - 8*i))
		}
		ip = netip.AddrFrom16(b).Unmap()
	default:
		return netip.AddrPort{}, false
	}
	if a.GetPort() == 0 || a.GetPort() > 65535 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, uint16(a.GetPort())), true
}

// endpoint is one place to send to, with its connections and its health.
type endpoint struct {
	endpointMeta
	proxy *Proxy
	// metrics are looked up at first use: most addresses that could be sent to
	// as they are, never are.
	metrics func() *endpointMetrics

	// inFlight counts requests and connections given to it, for balancing.
	inFlight atomic.Int64
	// failures in a row, and until when (UnixNano) they make it be passed over;
	// written by whoever fails or succeeds to reach it.
	failures, until atomic.Int64

	mu      sync.Mutex
	pools   map[poolKey]pool // made at first use
	retired bool
}

func newEndpoint(p *Proxy, meta endpointMeta) *endpoint {
	if meta.identity == "" && meta.reason == "" {
		meta.reason = reasonNotMeshed
	}
	return &endpoint{endpointMeta: meta, proxy: p, metrics: sync.OnceValue(func() *endpointMetrics { return p.metrics.endpoint(meta) }), pools: map[poolKey]pool{}}
}

// replacedBy returns e when next is the same endpoint, with all that is open;
// otherwise next, and e is retired.
func (e *endpoint) replacedBy(next *endpoint) *endpoint {
	if e != nil && next != nil && e.endpointMeta == next.endpointMeta {
		return e
	}
	e.retire()
	return next
}

// retire closes connections that are idle, now and when they become so. What is
// in flight finishes.
func (e *endpoint) retire() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retired = true
	for _, p := range e.pools {
		p.CloseIdleConnections()
	}
}

func (e *endpoint) succeeded() {
	if e.failures.Load() != 0 {
		e.failures.Store(0)
		e.until.Store(0)
	}
}

func (e *endpoint) failed() {
	n := min(e.failures.Add(1), 10)
	penalty := min(firstPenalty<<(n-1), lastPenalty)
	e.until.Store(time.Now().Add(penalty).UnixNano())
}

func (e *endpoint) healthy(now int64) bool { return e.until.Load() <= now }

// endpoints is the immutable set behind a Service.
type endpoints struct {
	list []*endpoint
	// exists is false when there is no such Service (any more).
	exists bool
	// opaque is true when all of them are.
	opaque bool
}

func newEndpoints(members map[netip.AddrPort]*endpoint, exists bool) endpoints {
	set := endpoints{exists: exists, opaque: len(members) > 0}
	for _, e := range members {
		set.list = append(set.list, e)
		set.opaque = set.opaque && e.opaque
	}
	return set
}

// pick chooses the less busy of two at random among the healthy ones that are
// not in tried; when none is healthy, among the others; nil when there is none.
func (s endpoints) pick(tried []*endpoint) *endpoint {
	now := time.Now().UnixNano()
	var healthy, ill []*endpoint
	for _, e := range s.list {
		switch {
		case contains(tried, e):
		case e.healthy(now):
			healthy = append(healthy, e)
		default:
			ill = append(ill, e)
		}
	}
	from := healthy
	if len(from) == 0 {
		from = ill
	}
	switch len(from) {
	case 0:
		return nil
	case 1:
		return from[0]
	}
	i := rand.IntN(len(from))
	j := rand.IntN(len(from) - 1)
	if j >= i {
		j++
	}
	if from[j].inFlight.Load() < from[i].inFlight.Load() {
		i = j
	}
	return from[i]
}

func contains(list []*endpoint, e *endpoint) bool {
	for _, other := range list {
		if other == e {
			return true
		}
	}
	return false
}
