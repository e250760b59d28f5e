package scenarios

import (
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// PolicyController is who writes the status of routes and rate limits (S-02).
const PolicyController = "linkerd.io/policy-controller"

// StatusClaim compares one condition in the status of an object: in the entry of
// a parent, as routes have them, or without a parent in the status itself.
type StatusClaim struct {
	Pos `yaml:"-" json:"-"`
	// APIVersion is needed for kinds that more than one group has, unless that of this mesh is meant.
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind" jsonschema:"required"`
	Name       string `yaml:"name" jsonschema:"required"`
	// Namespace is a real name, as a rule from a named value; the scenario's own when absent.
	Namespace string `yaml:"namespace"`
	// Parent whose entry is meant: the name of a Server, or KIND/NAME.
	Parent string `yaml:"parent"`
	// Controller that has written the parent's entry; linkerd.io/policy-controller when absent.
	Controller string `yaml:"controller"`
	// Condition is its type, such as Accepted.
	Condition string `yaml:"condition" jsonschema:"required"`
	// Is "True", "False", "Unknown", or absent: there is no such condition, or no such entry.
	Is ConditionIs `yaml:"is" jsonschema:"required"`
	// Reason of the condition; any when absent.
	Reason string `yaml:"reason"`
	// For is how long it must stay so once it is.
	For time.Duration `yaml:"for"`
}

// ConditionIs is the status of a condition, or that there is none.
type ConditionIs string

const (
	ConditionTrue    ConditionIs = "True"
	ConditionFalse   ConditionIs = "False"
	ConditionUnknown ConditionIs = "Unknown"
	ConditionAbsent  ConditionIs = "absent"
)

// Values lists the closed set.
func (ConditionIs) Values() []string {
	return of(ConditionTrue, ConditionFalse, ConditionUnknown, ConditionAbsent)
}

func (ConditionIs) describe() string {
	return `a condition's status, "True", "False" or "Unknown" in quotes, or absent`
}

// JSONSchema is the list.
func (v ConditionIs) JSONSchema() *jsonschema.Schema { return enumSchema(v) }

// Subresource of an object that is written by itself.
type Subresource string

// StatusSubresource is what controllers write.
const StatusSubresource Subresource = "status"

// Values lists the closed set.
func (Subresource) Values() []string { return of(StatusSubresource) }

// JSONSchema is the list.
func (v Subresource) JSONSchema() *jsonschema.Schema { return enumSchema(v) }

// ParentRef splits the parent into kind and name.
func (c *StatusClaim) ParentRef() (kind, name string) {
	kind, name, qualified := strings.Cut(c.Parent, "/")
	if !qualified {
		return "Server", kind
	}
	return kind, name
}

func (v *validator) status(c *StatusClaim) {
	v.text(c.Pos, c.Name, c.Namespace, c.Parent)
	if c.Controller != "" && c.Parent == "" {
		v.add(c.Pos, "only the entries of parents tell who has written them: give parent, or remove controller")
	}
	if c.Is == ConditionAbsent && c.Reason != "" {
		v.add(c.Pos, "a condition that is absent has no reason: remove reason")
	}
}
