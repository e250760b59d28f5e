package scenarios

import (
	"slices"
	"time"
)

// HeldClaim compares a held connection. One of TCP stays open as long as its
// client would be let in (L-09); one of HTTP stays open whatever its requests get,
// and each of these is decided by itself (H-11), and a gRPC stream that has begun
// goes on.
type HeldClaim struct {
	Pos        `yaml:"-" json:"-"`
	Connection string    `yaml:"connection" jsonschema:"required"`
	State      HeldState `yaml:"state" jsonschema:"required"`
	// Next is the outcome of the next request on the same connection: of http1, http2 or grpc.
	Next Expect `yaml:"next"`
}

// maxHoldPause is the longest pause in which a claim still waits for the next
// message of a connection.
const maxHoldPause = time.Second

// Repeats says whether a connection of the protocol, when it is held, carries one
// request after the other.
func (p Protocol) Repeats() bool { return p == HTTP1 || p == HTTP2 || p == GRPC }

// Held finds the action that opens a connection; nil when there is none.
func (s *Scenario) Held(name string) *Hold {
	for i := range s.Spec.Steps {
		for _, action := range s.Spec.Steps[i].Actions {
			if action.Hold != nil && action.Hold.Name == name {
				return action.Hold
			}
		}
	}
	return nil
}

func (v *validator) heldClaim(c *HeldClaim) {
	v.known(c.Pos, "connection", c.Connection, v.held)
	hold := v.s.Held(c.Connection)
	if hold != nil && hold.Every > maxHoldPause && c.State == Open {
		v.add(c.Pos, "the connection says nothing for %s, and so nobody can tell that it is open: claim that it is cut, or give it an every of %s or less", hold.Every, maxHoldPause)
	}
	if hold == nil || len(c.Next) == 0 {
		return
	}
	switch {
	case !hold.Protocol.Repeats():
		v.add(c.Pos, "a connection of %s carries no next request: remove next, or hold one of %v", hold.Protocol, slices.DeleteFunc(Protocol("").Values(), func(p string) bool { return !Protocol(p).Repeats() }))
	case c.State != Open:
		v.add(c.Pos, "a connection that is %s carries no next request: remove next", c.State)
	}
}
