package engine

import (
	"context"
	"errors"
	"testing"
	"time"
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
