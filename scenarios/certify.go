package scenarios

import "github.com/invopop/jsonschema"

// Certification is what the identity service does with a request.
type Certification string

const (
	CertificateIssued  Certification = "issued"
	CertificateRefused Certification = "refused"
)

// Values lists the closed set.
func (Certification) Values() []string { return of(CertificateIssued, CertificateRefused) }

// JSONSchema is the list.
func (v Certification) JSONSchema() *jsonschema.Schema { return enumSchema(v) }

// OwnAudience stands for that of the API server.
const OwnAudience = "api-server"

// CertifyClaim asks the mesh's identity service for a certificate, as a proxy
// does, with a token of a ServiceAccount of the scenario's namespace.
type CertifyClaim struct {
	Pos `yaml:"-" json:"-"`
	// ServiceAccount whose token it is: default when absent, or one that a client of the scenario has.
	ServiceAccount string `yaml:"serviceAccount"`
	// Audience that the token is for: what proxies' tokens are for when absent; api-server is the API server's own, whatever that is called.
	Audience string `yaml:"audience"`
	// Identity that is asked for: that of the account when absent. Named values may stand in it.
	Identity string        `yaml:"identity"`
	Expect   Certification `yaml:"expect" jsonschema:"required"`
}

func (v *validator) certify(c *CertifyClaim) { v.text(c.Pos, c.Identity) }
