// Package echo is a workload that speaks every protocol a mesh tells apart and
// keeps a record of everything that reached it.
//
// A caller's request id goes in (header x-request-id, or the first word of a
// line on the raw ports); the same id comes out in the answer, on stdout as one
// JSON line, and in the ring behind GET /deliveries on the loopback port. So a
// client's "I was refused" can be held against "nothing arrived here".
//
// A path on the HTTP ports chooses the answer (PathStatus, PathRedirect), and an
// upgrade or a CONNECT there opens a tunnel.
//
// It allows everybody and never closes a connection by itself, except the
// finite streams of its gRPC service. Ports are PortHTTP to PortControl.
package echo

// The ports and, for the policed ones, the names their containerPorts have.
const (
	// PortHTTP speaks HTTP/1 and HTTP/2 with prior knowledge.
	PortHTTP = 8080
	// PortGRPC speaks gRPC: package meshproof.echo.v1, health and reflection.
	PortGRPC = 8081
	// PortTLS is HTTP over the application's own TLS, certificate for TLSName.
	PortTLS = 8443
	// PortTCP echoes lines.
	PortTCP = 9090
	// PortServerFirst greets with a banner line, then echoes lines.
	PortServerFirst = 9091
	// PortControl answers GET /deliveries on loopback only.
	PortControl = 4194

	NameHTTP        = "http"
	NameGRPC        = "grpc"
	NameTLS         = "tls"
	NameTCP         = "tcp"
	NameServerFirst = "server-first"
)

// TLSName is the server name of the application's own certificate. It is not a
// mesh identity, so a proxy passes such connections through.
const TLSName = "echo.example.test"

// Banner is the first line on PortServerFirst.
const Banner = "echo ready\n"
