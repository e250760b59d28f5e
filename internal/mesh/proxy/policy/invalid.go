package policy

import (
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
)

// invalidName is what the policy of a message that was not understood is called.
const invalidName = "invalid"

// InvalidPort is what dialect linkerd makes of a message that Parse refuses: a
// policy that looks for the protocol and permits nobody, localhost included
// (N-09). Dialect documented keeps the last good policy instead.
func InvalidPort(msg *pb.Server, detect time.Duration, d Dialect) (*Port, error) {
	hash, err := Hash(msg)
	if err != nil {
		return nil, err
	}
	server := labelRef(msg.GetLabels())
	server.Name = invalidName
	return &Port{Hash: hash, Server: server, Protocol: Detect, DetectTimeout: detect, dialect: d, onlyDefaults: true, invalid: true}, nil
}
