package emojivoto

import _ "embed"

var (
	//go:embed emojivoto.yml
	manifest []byte
	//go:embed emojivoto-policy.yml
	policy []byte
)

// Namespace is where Manifest puts everything.
const Namespace = "emojivoto"

// Manifest is the application as YAML documents, not injected: Namespace,
// ServiceAccounts, Services and Deployments (rules E-01 to E-04).
func Manifest() []byte { return append([]byte(nil), manifest...) }

// PolicyManifest is the sample policy as YAML documents (rules E-11 and E-12).
func PolicyManifest() []byte { return append([]byte(nil), policy...) }
