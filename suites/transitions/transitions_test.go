package transitions

import (
	"testing"

	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/suites/specs"
)

func TestTransitions(t *testing.T) { specs.Run(t, scenarios.Transitions) }
