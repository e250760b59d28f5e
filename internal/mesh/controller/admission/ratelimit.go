package admission

import (
	"fmt"
	"math"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeRateLimit is A-31.
func judgeRateLimit(r review, v *verdict) error {
	var spec api.HTTPLocalRateLimitPolicySpec
	if err := r.read(&spec); err != nil {
		return err
	}
	if target := spec.TargetRef; !server.is(target.Group, target.Kind) {
		v.refuse("spec.targetRef.kind", "%s cannot be limited, want Server.%s", written(target.Group, target.Kind), api.Group)
	}
	if spec.TargetRef.Name == "" {
		v.refuse("spec.targetRef.name", "is missing")
	}
	total := int64(math.MaxInt64)
	if spec.Total != nil {
		judgeRate("spec.total", spec.Total.RequestsPerSecond, total, v)
		total = spec.Total.RequestsPerSecond
	}
	if spec.Identity != nil {
		judgeRate("spec.identity", spec.Identity.RequestsPerSecond, total, v)
	}
	for i, override := range spec.Overrides {
		at := fmt.Sprintf("spec.overrides[%d]", i)
		judgeRate(at, override.RequestsPerSecond, total, v)
		for j, ref := range override.ClientRefs {
			at := fmt.Sprintf("%s.clientRefs[%d]", at, j)
			if !serviceAccount.is(ref.Group, ref.Kind) {
				v.refuse(at+".kind", "%s is no client, want ServiceAccount", written(ref.Group, ref.Kind))
			}
			if ref.Name == "" {
				v.refuse(at+".name", "is missing")
			}
		}
	}
	return nil
}

func judgeRate(at string, rate, total int64, v *verdict) {
	at += ".requestsPerSecond"
	switch {
	case rate == 0:
		v.refuse(at, "is 0, want at least 1")
	case rate < 0 || rate > math.MaxUint32:
		v.refuse(at, "%d is not between 1 and %d", rate, uint32(math.MaxUint32))
	case rate > total && total > 0:
		v.refuse(at, "%d exceeds the total of %d", rate, total)
	}
}
