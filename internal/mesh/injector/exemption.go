package injector

import (
	"fmt"
	"os"
	"strings"

	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// exemption settles what ExemptAuto leaves open. uidMap is the text of
// /proc/self/uid_map: this container runs under the same runtime as those it
// injects into, so where it sees a single user there is no uid to tell a proxy
// by, and the socket mark has to do.
func exemption(asked values.Exemption, uidMap string) values.Exemption {
	if asked != values.ExemptAuto {
		return asked
	}
	if fields := strings.Fields(uidMap); len(fields) == 3 && fields[2] == "1" {
		return values.ExemptMark
	}
	return values.ExemptUID
}

func settleExemption(v *values.Values) error {
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("find out which users there are: %w", err)
	}
	v.ProxyExemption = exemption(v.ProxyExemption, string(uidMap))
	return nil
}
