package admission

import "github.com/meshproof/meshproof/internal/policy/api"

// judgeNetworkAuthentication is A-22.
func judgeNetworkAuthentication(r review, v *verdict) error {
	var spec api.NetworkAuthenticationSpec
	if err := r.read(&spec); err != nil {
		return err
	}
	if len(spec.Networks) == 0 {
		v.refuse("spec.networks", "is empty, want at least one network")
	}
	judgeNetworks("spec.networks", spec.Networks, v)
	return nil
}
