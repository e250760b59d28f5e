package index

import (
	"iter"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// selectors files label selectors under labels that they ask for, so that those
// that match given labels are found without looking at all of them. A class
// keeps apart what is never looked for together: Servers by their port. Where there
// are no such parts all are of the zero class.
type selectors struct {
	filed map[anchor]map[string]*api.LabelSelector
	// at remembers where each name is filed.
	at map[string][]anchor
}

// anchor is a label with its value, a label with any value when any is set, or
// with no key what every set of labels has.
type anchor struct {
	class      PortReference
	key, value string
	any        bool
}

func newSelectors() selectors {
	return selectors{filed: map[anchor]map[string]*api.LabelSelector{}, at: map[string][]anchor{}}
}

// set files a selector in place of the one that the name had; nil is none.
func (s selectors) set(class PortReference, name string, selector *api.LabelSelector) {
	for _, a := range s.at[name] {
		delete(s.filed[a], name)
		if len(s.filed[a]) == 0 {
			delete(s.filed, a)
		}
	}
	delete(s.at, name)
	if selector == nil {
		return
	}
	anchors := s.anchors(class, selector)
	s.at[name] = anchors
	for _, a := range anchors {
		if s.filed[a] == nil {
			s.filed[a] = map[string]*api.LabelSelector{}
		}
		s.filed[a][name] = selector
	}
}

// anchors are labels one of which is on whatever the selector matches: of those
// it asks for, the one with the fewest others.
func (s selectors) anchors(class PortReference, selector *api.LabelSelector) []anchor {
	var best anchor
	found := false
	for key, value := range selector.MatchLabels {
		a := anchor{class: class, key: key, value: value}
		if !found || len(s.filed[a]) < len(s.filed[best]) {
			best, found = a, true
		}
	}
	if found {
		return []anchor{best}
	}
	for _, r := range selector.MatchExpressions {
		switch {
		case r.Operator == api.In && len(r.Values) > 0:
			all := make([]anchor, len(r.Values))
			for i, value := range r.Values {
				all[i] = anchor{class: class, key: r.Key, value: value}
			}
			return all
		case r.Operator == api.Exists:
			return []anchor{{class: class, key: r.Key, any: true}}
		}
	}
	return []anchor{{class: class}}
}

// matching yields the names of the class's selectors that the labels fulfil.
func (s selectors) matching(class PortReference, labels map[string]string) iter.Seq[string] {
	return func(yield func(string) bool) {
		try := func(a anchor) bool {
			for name, selector := range s.filed[a] {
				if matches(selector, labels) && !yield(name) {
					return false
				}
			}
			return true
		}
		if !try(anchor{class: class}) {
			return
		}
		for key, value := range labels {
			if !try(anchor{class: class, key: key, value: value}) || !try(anchor{class: class, key: key, any: true}) {
				return
			}
		}
	}
}

// labelSets files sets of labels, so that those that fulfil a selector are found
// without looking at all of them.
type labelSets struct {
	labels map[string]map[string]string
	filed  map[anchor]map[string]bool
}

func newLabelSets() labelSets {
	return labelSets{labels: map[string]map[string]string{}, filed: map[anchor]map[string]bool{}}
}

// set files labels in place of those that the name had.
func (l labelSets) set(name string, labels map[string]string) {
	l.remove(name)
	l.labels[name] = labels
	for key, value := range labels {
		for _, a := range []anchor{{key: key, value: value}, {key: key, any: true}} {
			if l.filed[a] == nil {
				l.filed[a] = map[string]bool{}
			}
			l.filed[a][name] = true
		}
	}
}

func (l labelSets) remove(name string) {
	for key, value := range l.labels[name] {
		for _, a := range []anchor{{key: key, value: value}, {key: key, any: true}} {
			delete(l.filed[a], name)
			if len(l.filed[a]) == 0 {
				delete(l.filed, a)
			}
		}
	}
	delete(l.labels, name)
}

// fulfilling yields the names whose labels fulfil the selector; nil is fulfilled
// by none.
func (l labelSets) fulfilling(selector *api.LabelSelector) iter.Seq[string] {
	return func(yield func(string) bool) {
		if selector == nil {
			return
		}
		all := func(name string) bool {
			return !matches(selector, l.labels[name]) || yield(name)
		}
		if few, ok := l.narrow(selector); ok {
			for _, a := range few {
				for name := range l.filed[a] {
					if !all(name) {
						return
					}
				}
			}
			return
		}
		for name := range l.labels {
			if !all(name) {
				return
			}
		}
	}
}

// narrow finds labels one of which is on whatever fulfils the selector, those
// that the fewest have.
func (l labelSets) narrow(selector *api.LabelSelector) (best []anchor, found bool) {
	least := 0
	consider := func(anchors ...anchor) {
		n := 0
		for _, a := range anchors {
			n += len(l.filed[a])
		}
		if !found || n < least {
			best, found, least = anchors, true, n
		}
	}
	for key, value := range selector.MatchLabels {
		consider(anchor{key: key, value: value})
	}
	for _, r := range selector.MatchExpressions {
		switch {
		case r.Operator == api.In:
			var each []anchor
			for _, value := range r.Values {
				each = append(each, anchor{key: r.Key, value: value})
			}
			consider(each...)
		case r.Operator == api.Exists:
			consider(anchor{key: r.Key, any: true})
		}
	}
	return best, found
}
