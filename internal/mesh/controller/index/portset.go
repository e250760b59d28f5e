package index

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// PortSet is a set of ports as inclusive ranges.
type PortSet []PortRange

// PortRange holds the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Contains reports whether port is in one of the ranges.
func (s PortSet) Contains(port uint16) bool {
	return slices.ContainsFunc(s, func(r PortRange) bool { return r.First <= port && port <= r.Last })
}

// portsAnnotation reads a comma-separated list of numbers, ranges and names of
// the pod's ports. Linkerd knows no names there and drops the whole list for
// one; the repaired reading drops only what it cannot use (D-15).
func (s *PodSpec) portsAnnotation(pod *corev1.Pod, annotation string, dialect api.Dialect) PortSet {
	value, ok := pod.Annotations[annotation]
	if !ok {
		return nil
	}
	field := "metadata.annotations[" + annotation + "]"
	var set PortSet
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if named := s.Named[item]; dialect.QuirksRepaired && len(named) > 0 {
			for _, port := range named {
				set = append(set, PortRange{port, port})
			}
			continue
		}
		r, err := parsePortRange(item)
		switch {
		case err == nil:
			set = append(set, r)
		case dialect.QuirksRepaired:
			s.Problems.add(field, err.Error()+", it is left out")
		default:
			s.Problems.add(field, err.Error()+", the whole list is ignored")
			return nil
		}
	}
	return set
}

func parsePortRange(item string) (PortRange, error) {
	first, last, isRange := strings.Cut(item, "-")
	if !isRange {
		last = first
	}
	low, err := parsePort(first)
	if err != nil {
		return PortRange{}, fmt.Errorf("%q is neither a port, a range of ports nor a port name of the pod", item)
	}
	high, err := parsePort(last)
	if err != nil || high < low {
		return PortRange{}, fmt.Errorf("%q is not a range of ports", item)
	}
	return PortRange{low, high}, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}
