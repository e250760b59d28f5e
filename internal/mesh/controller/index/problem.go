package index

import "strings"

// Problem says what is wrong with one field of an object.
type Problem struct {
	// Field is the path, such as spec.client.networks[0].cidr.
	Field string
	// Text says what was found and what is wanted, without the field's name.
	Text string
}

func (p Problem) String() string { return p.Field + ": " + p.Text }

// Problems is a list that reads as one message.
type Problems []Problem

func (p Problems) String() string {
	texts := make([]string, len(p))
	for i, problem := range p {
		texts[i] = problem.String()
	}
	return strings.Join(texts, "; ")
}

func (p *Problems) add(field, text string) { *p = append(*p, Problem{field, text}) }
