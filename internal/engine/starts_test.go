package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/meshproof/meshproof/scenarios"
)

func TestPodsStartAFewAtATimeInTheOrderOfAsking(t *testing.T) {
	s := newStarts(t.Context(), 4)
	up := make(chan struct{})
	if err := s.wait(t.Context(), 9); err != nil { // more than there are: all
		t.Fatal(err)
	}
	s.watch(9, func(context.Context) { <-up })
	busy, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.wait(busy, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("another pod may start although none has: %v", err)
	}
	close(up)
	if err := s.wait(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	s.watch(3, nil) // they could not be created
	if err := s.wait(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	s.watch(4, func(ctx context.Context) { <-ctx.Done() })
	s.close() // or it would hang
}

func TestWhereContainersAreProcessesNothingWaits(t *testing.T) {
	var s *starts
	if err := s.wait(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	s.watch(100, func(context.Context) { t.Error("somebody watches") })
	s.close()
}

func TestWhoIsWaitedForStartsFirst(t *testing.T) {
	named := func(name string, serial bool, namespace string) *scenarioRun {
		return &scenarioRun{planned: &scenarios.PlannedScenario{Scenario: &scenarios.Scenario{
			Metadata: scenarios.Metadata{Name: name}, Spec: scenarios.Spec{Serial: serial, Namespace: namespace}}}}
	}
	var names []string
	for _, s := range inOrderOfStart([]*scenarioRun{named("last", true, ""), named("second", false, ""), named("third", false, ""), named("first", false, "emojivoto")}) {
		names = append(names, s.planned.Metadata.Name)
	}
	if want := []string{"first", "second", "third", "last"}; !slices.Equal(names, want) {
		t.Errorf("the order is %v, want %v", names, want)
	}
}
