package inbound

import (
	"net"
	"net/netip"
	"testing"
)

// A socket for both families shows an IPv4 client by the IPv6 form of its
// address; networks are compared with the IPv4 one (T-04).
func TestAClientOfADualStackSocketHasItsIPv4Address(t *testing.T) {
	listener, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skipf("this machine has no sockets for both families: %v", err)
	}
	defer listener.Close()
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listener.Addr().(*net.TCPAddr).AddrPort().Port())
	client, err := net.Dial("tcp4", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw := accepted.(*net.TCPConn)
	if kernels := raw.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); !kernels.Is4In6() {
		t.Skipf("the kernel shows the client as %s", kernels)
	}
	if peer, want := peerOf(raw), client.LocalAddr().(*net.TCPAddr).AddrPort(); peer != want || !peer.Addr().Is4() {
		t.Errorf("the client is taken for %s, want %s", peer, want)
	}
}
