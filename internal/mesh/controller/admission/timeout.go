package admission

import (
	"time"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeTimeouts is the part of A-27 about a rule's time-outs; zero is none.
func judgeTimeouts(at string, timeouts *api.HTTPRouteTimeouts, v *verdict) {
	if timeouts == nil {
		return
	}
	request, backend := judgeDuration(at+".request", timeouts.Request, v), judgeDuration(at+".backendRequest", timeouts.BackendRequest, v)
	if request > 0 && backend > request {
		v.refuse(at+".backendRequest", "%s exceeds the request's %s", *timeouts.BackendRequest, *timeouts.Request)
	}
}

// judgeDuration is 0 for what is absent or wrong.
func judgeDuration(at string, text *string, v *verdict) time.Duration {
	if text == nil {
		return 0
	}
	d, err := time.ParseDuration(*text)
	switch {
	case err != nil:
		v.refuse(at, "%q is no duration such as 10s", *text)
	case d < 0:
		v.refuse(at, "%s is negative", *text)
	default:
		return d
	}
	return 0
}
