package admission

import (
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeServer is: the index knows what it can use.
func judgeServer(r review, v *verdict) error {
	var spec api.ServerSpec
	if err := r.read(&spec); err != nil {
		return err
	}
	// A field that is there and empty is no spelling of anything, while one that
	// is absent has its default.
	var given struct {
		ProxyProtocol *string `json:"proxyProtocol"`
		AccessPolicy  *string `json:"accessPolicy"`
	}
	if err := r.read(&given); err != nil {
		return err
	}
	v.problems = index.NewServerSpec(&api.Server{Spec: spec}).Problems
	if given.ProxyProtocol != nil && *given.ProxyProtocol == "" {
		v.refuse("spec.proxyProtocol", "is empty")
	}
	if given.AccessPolicy != nil && *given.AccessPolicy == "" {
		v.refuse("spec.accessPolicy", "is empty")
	}
	return nil
}
