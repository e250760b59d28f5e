// Package identity gives a mesh process its certificate and the TLS settings
// that go with it. Proxies and controllers use it alike.
//
// A service account token and a certificate request go to the identity service
// (or to a local signer, in the pod that is the identity service); a leaf with
// exactly one name comes back, is kept in memory with its key, and is renewed
// at about 70 % of its life. TLS settings handed out read the current leaf at
// each handshake, so a renewal needs no restart and touches no open session.
//
// What it refuses: TLS below 1.3, session resumption, a presented certificate
// that does not chain to the trust anchors, is out of date, is a CA, lacks the
// key usage or whose first name is no identity. Such a peer fails the
// handshake; it is never taken for a session without identity. A peer that
// presents no certificate is one (rules I-01 to I-07, X-75).
//
// A chain that was verified is remembered (trust), for the same anchors and while
// all of its path is in date: its signatures are not checked again in the peer's
// next handshake, the peer's key is.
//
// It issues nothing and never reads an identity from anything but a
// certificate. The issuer is a package of its own, below this one.
package identity
