package destination

import (
	"slices"
	"strconv"
	"strings"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

// ports is a set of ports as inclusive ranges.
type ports []portRange

type portRange struct{ first, last uint16 }

func (p ports) contains(port uint16) bool {
	return slices.ContainsFunc(p, func(r portRange) bool { return r.first <= port && port <= r.last })
}

// parsePorts reads numbers and ranges and leaves out everything else: names are
// for those who know the ports of a pod.
func parsePorts(list string) ports {
	var all ports
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, ok := parsePort(first)
		to, ok2 := parsePort(last)
		if ok && ok2 && from <= to {
			all = append(all, portRange{from, to})
		}
	}
	return all
}

func parsePort(text string) (uint16, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	return uint16(n), err == nil && n > 0
}

func portsOf(set index.PortSet) ports {
	var all ports
	for _, r := range set {
		all = append(all, portRange{r.First, r.Last})
	}
	return all
}
