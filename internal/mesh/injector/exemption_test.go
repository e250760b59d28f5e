package injector

import (
	"testing"

	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func TestTheProxyIsToldByItsUserWhereThereIsMoreThanOne(t *testing.T) {
	const (
		host     = "         0          0 4294967295\n"
		rootful  = "         0     200000      65536\n"
		rootless = "         0       1000          1\n"
		two      = "         0       1000          1\n         1     100000      65536\n"
	)
	for _, test := range []struct {
		asked  values.Exemption
		uidMap string
		want   values.Exemption
	}{
		{values.ExemptAuto, host, values.ExemptUID},
		{values.ExemptAuto, rootful, values.ExemptUID},
		{values.ExemptAuto, two, values.ExemptUID},
		{values.ExemptAuto, rootless, values.ExemptMark},
		{values.ExemptUID, rootless, values.ExemptUID},
		{values.ExemptMark, host, values.ExemptMark},
	} {
		if got := exemption(test.asked, test.uidMap); got != test.want {
			t.Errorf("asked for %s with the users %q: %s, want %s", test.asked, test.uidMap, got, test.want)
		}
	}
}
