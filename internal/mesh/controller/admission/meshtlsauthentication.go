package admission

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeMeshTLSAuthentication is.
func judgeMeshTLSAuthentication(r review, v *verdict) error {
	var spec struct {
		Identities   *[]string                `json:"identities"`
		IdentityRefs *[]api.IdentityReference `json:"identityRefs"`
	}
	if err := r.read(&spec); err != nil {
		return err
	}
	switch {
	case spec.Identities == nil && spec.IdentityRefs == nil:
		v.refuse("spec", "holds neither identities nor identityRefs")
	case spec.Identities != nil && spec.IdentityRefs != nil:
		v.refuse("spec", "holds both identities and identityRefs, want one of them")
	case spec.Identities != nil && len(*spec.Identities) == 0:
		v.refuse("spec.identities", "is empty")
	case spec.IdentityRefs != nil && len(*spec.IdentityRefs) == 0:
		v.refuse("spec.identityRefs", "is empty")
	}
	if spec.Identities != nil {
		for i, identity := range *spec.Identities {
			if problem := identityProblem(identity); problem != "" {
				v.refuse(fmt.Sprintf("spec.identities[%d]", i), "%q %s", identity, problem)
			}
		}
	}
	if spec.IdentityRefs != nil {
		for i, ref := range *spec.IdentityRefs {
			judgeIdentityRef(fmt.Sprintf("spec.identityRefs[%d]", i), ref, v)
		}
	}
	return nil
}

// judgeIdentityRef is A-17, and C-20 for the name.
func judgeIdentityRef(at string, ref api.IdentityReference, v *verdict) {
	isNamespace := namespace.is(ref.Group, ref.Kind)
	if !isNamespace && !serviceAccount.is(ref.Group, ref.Kind) {
		v.refuse(at+".kind", "%s is no identity, want ServiceAccount or Namespace", written(ref.Group, ref.Kind))
	}
	if isNamespace && ref.Namespace != "" {
		v.refuse(at+".namespace", "is %q, and a Namespace is in none", ref.Namespace)
	}
	if ref.Name == "" {
		v.refuse(at+".name", "is missing")
	}
}

const spiffeScheme = "spiffe://"

// identityProblem says what keeps text from being an identity, "" when nothing
// does: it is a DNS name, perhaps with * in front, or a SPIFFE ID.
func identityProblem(text string) string {
	if rest, isSPIFFE := strings.CutPrefix(text, spiffeScheme); isSPIFFE {
		return spiffeProblem(rest)
	}
	if text == "" {
		return "is empty"
	}
	for i, label := range strings.Split(text, ".") {
		switch {
		case label == "*" && i == 0:
		case label == "":
			return "has an empty label"
		case strings.Contains(label, "*"):
			return "has a * that is not the whole first label"
		case !consists(label, "-_", true):
			return "is neither a DNS name nor a SPIFFE ID"
		}
	}
	return ""
}

// spiffeProblem looks at what follows the scheme.
func spiffeProblem(text string) string {
	if strings.ContainsAny(text, "?#") {
		return "has a query or fragment"
	}
	domain, path, hasPath := strings.Cut(text, "/")
	switch {
	case domain == "":
		return "has no trust domain"
	case strings.Contains(domain, "@"):
		return "has a user"
	case strings.Contains(domain, ":"):
		return "has a port"
	case !consists(domain, "-._", false):
		return "has a trust domain with other characters than a-z, 0-9, -, . and _"
	case !hasPath:
		return ""
	}
	for _, segment := range strings.Split(path, "/") {
		switch segment {
		case "":
			return "has an empty path segment"
		case ".", "..":
			return "has a relative path segment"
		}
	}
	return ""
}

// consists says whether text has letters, digits and the others alone.
func consists(text, others string, upper bool) bool {
	return strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || upper && r >= 'A' && r <= 'Z' || strings.ContainsRune(others, r))
	}) < 0
}
