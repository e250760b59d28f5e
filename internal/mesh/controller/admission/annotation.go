package admission

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// The statuses that retries may be for, as annotations name them.
var (
	httpClasses  = []string{"5xx", "gateway-error"}
	grpcStatuses = []string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)

// parentAnnotations are those that concern clients of a Service.
var parentAnnotations = map[string]func(at, text string, v *verdict){
	"retry.linkerd.io/http":       judgeRetryHTTP,
	"retry.linkerd.io/grpc":       judgeRetryGRPC,
	"retry.linkerd.io/limit":      judgeRetryLimit,
	"retry.linkerd.io/timeout":    judgePause,
	"timeout.linkerd.io/request":  judgePause,
	"timeout.linkerd.io/response": judgePause,
	"timeout.linkerd.io/idle":     judgePause,
}

// judgeParentAnnotations is the part of A-27 about annotations for retries and
// time-outs. On a route of Servers alone they mean nothing and are not looked at.
func judgeParentAnnotations(parents []api.ParentReference, annotations map[string]string, v *verdict) {
	if !slices.ContainsFunc(parents, func(p api.ParentReference) bool {
		return p.Kind != nil && strings.EqualFold(*p.Kind, service.name)
	}) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(parentAnnotations)) {
		if text, given := annotations[key]; given {
			parentAnnotations[key]("metadata.annotations["+key+"]", text, v)
		}
	}
}

func judgeRetryHTTP(at, text string, v *verdict) {
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		first, last, isRange := strings.Cut(item, "-")
		if slices.Contains(httpClasses, item) || status(first) && (!isRange || status(last) && first <= last) {
			continue
		}
		v.refuse(at, "%q is no status such as 5xx, gateway-error, 503 or 500-504", item)
	}
}

// status says whether text is a status of HTTP, which has three digits.
func status(text string) bool {
	code, err := strconv.Atoi(text)
	return err == nil && len(text) == 3 && code >= 100 && code <= 599
}

func judgeRetryGRPC(at, text string, v *verdict) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); !slices.Contains(grpcStatuses, item) {
			v.refuse(at, "%q is not one of %s", item, strings.Join(grpcStatuses, ", "))
		}
	}
}

func judgeRetryLimit(at, text string, v *verdict) {
	if _, err := strconv.ParseUint(text, 10, 16); err != nil {
		v.refuse(at, "%q is no number of retries", text)
	}
}

func judgePause(at, text string, v *verdict) { judgeDuration(at, &text, v) }
