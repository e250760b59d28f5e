package faults

import (
	"testing"

	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/suites/specs"
)

func TestFaults(t *testing.T) { specs.Run(t, scenarios.Faults) }
