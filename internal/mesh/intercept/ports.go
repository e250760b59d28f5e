package intercept

import (
	"fmt"
	"strconv"
	"strings"
)

// PortRange is First to Last, both included; a single port has them equal.
type PortRange struct{ First, Last uint16 }

// String is the form that ParsePorts reads.
func (p PortRange) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// ParsePorts reads a list such as "25,4567-4568". Empty text is an empty list.
func ParsePorts(text string) ([]PortRange, error) {
	var ports []PortRange
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		var p PortRange
		var err error
		if p.First, err = parsePort(first); err == nil {
			p.Last, err = parsePort(last)
		}
		if err != nil {
			return nil, fmt.Errorf("port list %q: %w", text, err)
		}
		if p.Last < p.First {
			return nil, fmt.Errorf("port list %q: range %s ends before it begins", text, item)
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%q is no port between 1 and 65535", text)
	}
	return uint16(port), nil
}
