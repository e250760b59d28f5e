package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// rememberedChains bounds the chains that a trust remembers, at a few hundred bytes
// each. A pod is called by tens of identities, rarely by hundreds.
const rememberedChains = 1024

// trust is a set of trust anchors, and what was found to chain to it. A client
// presents the same chain at each of its connections: its signatures are checked
// once, and not again while every certificate of the path is in date.
//
// What is remembered is what verifyPeer would find again: it is a function of the
// bytes presented, the role, the anchors and the time. The first two are the key,
// other anchors are another trust, with nothing in it, and the time is looked at
// in each use. Refusals are not remembered. That the peer has the leaf's key is
// nothing that is found out here: crypto/tls has it proved in every handshake.
type trust struct {
	anchors *x509.CertPool
	// check is verifyPeer, outside tests.
	check func([]*x509.Certificate, *x509.CertPool, x509.ExtKeyUsage, time.Time) (peer, error)

	// mu guards known.
	mu    sync.Mutex
	known map[chainKey]peer
}

// chainKey is what a peer presented, and what for.
type chainKey struct {
	presented [sha256.Size]byte
	usage     x509.ExtKeyUsage
}

// peer is the identity that a chain gives, from notBefore to notAfter, both
// included: the time in which every certificate between leaf and anchor is in date.
type peer struct {
	name                string
	notBefore, notAfter time.Time
}

func newTrust(anchors *x509.CertPool) *trust {
	return &trust{anchors: anchors, check: verifyPeer, known: map[chainKey]peer{}}
}

// identify is verifyPeer, for chains that come again and again.
func (t *trust) identify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (name string, err error) {
	key := keyOf(chain, usage)
	t.mu.Lock()
	found, ok := t.known[key]
	t.mu.Unlock()
	if ok && found.at(now) {
		return found.name, nil
	}
	if found, err = t.check(chain, t.anchors, usage, now); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.known[key]; !ok && len(t.known) >= rememberedChains {
		for whichever := range t.known { // who is forgotten is verified again
			delete(t.known, whichever)
			break
		}
	}
	t.known[key] = found
	return found.name, nil
}

// at tells whether every certificate of the path is in date.
func (p peer) at(now time.Time) bool { return !now.Before(p.notBefore) && !now.After(p.notAfter) }

// keyOf tells chains apart by every byte of every certificate.
func keyOf(chain []*x509.Certificate, usage x509.ExtKeyUsage) chainKey {
	key := chainKey{usage: usage}
	digest := sha256.New()
	var length [8]byte
	for _, certificate := range chain {
		binary.BigEndian.PutUint64(length[:], uint64(len(certificate.Raw)))
		digest.Write(length[:])
		digest.Write(certificate.Raw)
	}
	digest.Sum(key.presented[:0])
	return key
}

// inDate is when all certificates of one of these paths are in date, of the path
// for which that lasts longest.
func inDate(paths [][]*x509.Certificate) (notBefore, notAfter time.Time) {
	for _, path := range paths {
		begins, ends := path[0].NotBefore, path[0].NotAfter
		for _, certificate := range path[1:] {
			if certificate.NotBefore.After(begins) {
				begins = certificate.NotBefore
			}
			if certificate.NotAfter.Before(ends) {
				ends = certificate.NotAfter
			}
		}
		if ends.After(notAfter) {
			notBefore, notAfter = begins, ends
		}
	}
	return notBefore, notAfter
}
