// Package dns answers for the cluster's names.
//
// It follows the Kubernetes DNS specification for services (A, SRV), headless
// services and their endpoints, pods by address, and reverse look-ups of
// services. Snapshots of the services flow in, answers flow out. It knows
// nothing beyond the cluster's domain and asks nobody: every other name does
// not exist.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/meshproof/meshproof/internal/cluster/embedded/discovery"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// lifetime is for how many seconds an answer may be kept. Names follow pods,
// and pods come and go while a scenario watches.
const lifetime = 1

// port of the name server.
const port = 53

const (
	zone        = layout.ClusterDomain + "."
	reverseZone = "in-addr.arpa."
)

// Server answers from the last snapshot it was given. The zero value answers
// with failures until there is one.
type Server struct {
	index atomic.Pointer[index]
}

// index is a snapshot arranged by name.
type index struct {
	services map[discovery.ServiceName]discovery.Record
	// namespaces that have services: their names exist, though nothing is there.
	namespaces map[string]bool
	reverse    map[netip.Addr]string
}

// Update makes the server answer from a snapshot.
func (s *Server) Update(snapshot *discovery.Snapshot) {
	i := &index{services: snapshot.Names, namespaces: map[string]bool{}, reverse: map[netip.Addr]string{}}
	for name, record := range snapshot.Names {
		i.namespaces[name.Namespace] = true
		fqdn := name.Name + "." + name.Namespace + ".svc." + zone
		if record.ClusterIP.IsValid() {
			i.reverse[record.ClusterIP] = fqdn
		}
		for _, endpoint := range record.Endpoints {
			i.reverse[endpoint.Address] = endpoint.Host + "." + fqdn
		}
	}
	s.index.Store(i)
}

// Serve answers on UDP and TCP at the address until ctx ends. It calls started
// when both are open.
func (s *Server) Serve(ctx context.Context, address netip.Addr, started func()) error {
	where := netip.AddrPortFrom(address, port).String()
	packets, err := net.ListenPacket("udp", where)
	if err != nil {
		return fmt.Errorf("open DNS: %w", err)
	}
	listener, err := net.Listen("tcp", where)
	if err != nil {
		return errors.Join(fmt.Errorf("open DNS: %w", err), packets.Close())
	}
	servers := []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: listener, Handler: s}}
	results := make(chan error, len(servers))
	for _, server := range servers {
		go func() { results <- server.ActivateAndServe() }()
	}
	started()
	var failed []error
	waiting := len(servers)
	select {
	case <-ctx.Done():
	case err := <-results:
		failed = append(failed, fmt.Errorf("serve DNS: %w", err))
		waiting--
	}
	packets.Close()
	listener.Close()
	for ; waiting > 0; waiting-- {
		<-results // the error says that its socket was closed
	}
	return errors.Join(failed...)
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	reply := s.answer(request)
	if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP {
		size := dns.MinMsgSize
		if option := request.IsEdns0(); option != nil {
			size = max(size, int(option.UDPSize()))
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply) // who asked has gone, or asks again
}

func (s *Server) answer(request *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	reply.SetReply(request)
	reply.Authoritative, reply.RecursionAvailable, reply.Compress = true, true, true
	if option := request.IsEdns0(); option != nil {
		reply.SetEdns0(max(option.UDPSize(), dns.MinMsgSize), false)
	}
	i := s.index.Load()
	if i == nil {
		reply.Rcode = dns.RcodeServerFailure
		return reply
	}
	if len(request.Question) != 1 {
		reply.Rcode = dns.RcodeFormatError
		return reply
	}
	question := request.Question[0]
	found := i.lookup(strings.ToLower(question.Name))
	if !found.exists {
		reply.Rcode = dns.RcodeNameError
		reply.Ns = []dns.RR{authority()}
		return reply
	}
	reply.Answer = found.records(question.Name, question.Qtype)
	if len(reply.Answer) == 0 {
		// The name exists and has no such record: for AAAA this answer, and not
		// "no such name", keeps clients from giving up on the A record.
		reply.Ns = []dns.RR{authority()}
	}
	if question.Qtype == dns.TypeSRV {
		reply.Extra = append(found.targets(), reply.Extra...)
	}
	return reply
}

func authority() dns.RR {
	return &dns.SOA{Hdr: header(zone, dns.TypeSOA), Ns: "ns.dns." + zone, Mbox: "hostmaster." + zone,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: lifetime}
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: lifetime}
}
