// Package issuer is the mesh's certificate authority, the role `identity`.
//
// A proxy sends the name it wants, its ServiceAccount token and a certificate
// request; the token is reviewed by the API server, the name must be the one
// that belongs to the account, and a leaf of a day's life goes back (rules J-01
// to J-04). At its first start on a cluster the role makes a trust anchor and an
// issuer and keeps them in a Secret; every later start finds them there, so that
// applying the manifests again never changes the trust root. The anchors, not
// the keys, are published in a ConfigMap for everybody.
//
// It refuses names that are not exactly the token's, requests with any further
// name, and to certify at all while it has no valid issuer. It stores no
// certificate that it hands out.
package issuer
