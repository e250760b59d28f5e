package conformance

import (
	"testing"

	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/suites/specs"
)

func TestConformance(t *testing.T) { specs.Run(t, scenarios.Conformance) }
