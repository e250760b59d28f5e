package admission

import (
	"fmt"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeServerAuthorization is.
func judgeServerAuthorization(r review, v *verdict) error {
	var spec api.ServerAuthorizationSpec
	if err := r.read(&spec); err != nil {
		return err
	}
	if (spec.Server.Name == "") == (spec.Server.Selector == nil) {
		v.refuse("spec.server", "want exactly one of name and selector")
	}
	client := spec.Client
	index.ContradictoryClient(client, &v.problems)
	judgeNetworks("spec.client.networks", client.Networks, v)
	tls := client.MeshTLS
	if tls != nil {
		for i, account := range tls.ServiceAccounts {
			if account.Name == "" {
				v.refuse(fmt.Sprintf("spec.client.meshTLS.serviceAccounts[%d].name", i), "is missing")
			}
		}
	}
	// admitted, and good for nothing.
	switch {
	case client.Unauthenticated:
	case tls == nil:
		v.warn("spec.client", "holds neither unauthenticated nor meshTLS, it admits nobody")
	case !tls.UnauthenticatedTLS && len(tls.Identities)+len(tls.ServiceAccounts) == 0:
		v.warn("spec.client.meshTLS", "names no client, it admits nobody")
	}
	return nil
}

// judgeNetworks is A-22's part about each network.
func judgeNetworks(field string, networks []api.Network, v *verdict) {
	index.NewNetworks(field, networks, &v.problems)
	index.PointlessExceptions(field, networks, &v.problems)
}
