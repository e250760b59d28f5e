package oracle

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// SameNamespace is the first half of X-01: a Server selects pods of its own
// namespace only.
func SameNamespace(server *api.Server, pod *corev1.Pod) bool {
	return server.Namespace == pod.Namespace
}

// LabelsMatch is C-08 and C-09: labels and expressions must all hold, and an
// empty selector matches everything (C-03). Absent, it matches nothing.
func LabelsMatch(selector *api.LabelSelector, labels map[string]string) (bool, string) {
	if selector == nil {
		return false, "it has no selector"
	}
	var held []string
	for _, key := range sortedKeys(selector.MatchLabels) {
		want := selector.MatchLabels[key]
		if got, there := labels[key]; !there || got != want {
			return false, fmt.Sprintf("label %s is not %s", key, want)
		}
		held = append(held, key+"="+want)
	}
	for _, e := range selector.MatchExpressions {
		if !expressionHolds(e, labels) {
			return false, fmt.Sprintf("%s %s %v does not hold", e.Key, e.Operator, e.Values)
		}
		held = append(held, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ","))))
	}
	if len(held) == 0 {
		return true, "its selector is empty"
	}
	return true, strings.Join(held, ", ")
}

func expressionHolds(e api.SelectorRequirement, labels map[string]string) bool {
	value, there := labels[e.Key]
	switch e.Operator {
	case api.In:
		return there && slices.Contains(e.Values, value)
	case api.NotIn:
		// Without the key values it matches nothing; without the label it does.
		return e.Values != nil && !(there && slices.Contains(e.Values, value))
	case api.Exists:
		return e.Values == nil && there
	case api.DoesNotExist:
		return e.Values == nil && !there
	default:
		return false
	}
}

// NumberSelected is the second half of X-01 and its row of 19.1: a port by
// number needs no declaration, or in the documented dialect it does.
func NumberSelected(number int32, pod *corev1.Pod, port uint16, dialect api.Dialect) (bool, string) {
	if number != int32(port) {
		return false, fmt.Sprintf("its port is %d", number)
	}
	if dialect.DeclaredPortsOnly && len(declared(pod, port)) == 0 {
		return false, fmt.Sprintf("no container declares port %d", number)
	}
	return true, fmt.Sprintf("port %d", number)
}

// NameSelected is: a name means every TCP port, of any container,
// that is declared under exactly this name.
func NameSelected(name string, pod *corev1.Pod, port uint16) (bool, string) {
	if slices.Contains(declared(pod, port), name) {
		return true, fmt.Sprintf("port %s = %d", name, port)
	}
	return false, fmt.Sprintf("port %d is not called %s", port, name)
}

// Precedes is X-04: of two Servers on one port the older wins, then the smaller
// name.
func Precedes(a, b *api.Server) (bool, string) {
	switch {
	case a.CreationTimestamp.Time.Equal(b.CreationTimestamp.Time) && a.CreationTimestamp.IsZero():
		return a.Name < b.Name, "its name comes first, and no creation times are known"
	case a.CreationTimestamp.Time.Equal(b.CreationTimestamp.Time):
		return a.Name < b.Name, "it is as old and its name comes first"
	case a.CreationTimestamp.IsZero() != b.CreationTimestamp.IsZero():
		// What is yet to be created will be the younger one.
		return b.CreationTimestamp.IsZero(), "it exists already"
	default:
		return a.CreationTimestamp.Time.Before(b.CreationTimestamp.Time), "it is the older one"
	}
}

// selects reports whether the Server selects the pod's port.
func (o Oracle) selects(server *api.Server, pod *corev1.Pod, port uint16) (bool, string, string) {
	if !o.Rules.SameNamespace(server, pod) {
		return false, "X-01", "it is of another namespace"
	}
	holds, labels := o.Rules.LabelsMatch(server.Spec.PodSelector, pod.Labels)
	if !holds {
		return false, "C-08", labels
	}
	var why, rule string
	if server.Spec.Port.Type == intstr.String {
		rule = "X-02"
		holds, why = o.Rules.NameSelected(server.Spec.Port.StrVal, pod, port)
	} else {
		rule = "X-01"
		holds, why = o.Rules.NumberSelected(server.Spec.Port.IntVal, pod, port, o.Dialect)
	}
	if !holds {
		return false, rule, why
	}
	return true, rule, labels + "; " + why
}

// server finds the Server that has the port, or nil; every Server of the
// namespace that selects the pod leaves a step.
func (o Oracle) server(pod *corev1.Pod, port uint16, steps *[]Step) *api.Server {
	var winner *api.Server
	for _, server := range o.World.Servers {
		if server.Namespace != pod.Namespace {
			if holds, _, _ := o.selects(server, pod, port); !holds {
				continue
			}
		}
		holds, rule, why := o.selects(server, pod, port)
		if !holds {
			note(steps, "server", rule, false, "Server %s does not select it: %s", server.Name, why)
			continue
		}
		note(steps, "server", rule, true, "Server %s selects it: %s", server.Name, why)
		if winner == nil {
			winner = server
			continue
		}
		loser := server
		first, why := o.Rules.Precedes(server, winner)
		if first {
			loser, winner = winner, server
		} else {
			_, why = o.Rules.Precedes(winner, server)
		}
		note(steps, "server", "X-04", true, "Server %s has the port and not %s: %s", winner.Name, loser.Name, why)
	}
	return winner
}
