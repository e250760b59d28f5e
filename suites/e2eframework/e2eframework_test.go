package e2eframework_test

import (
	"strings"
	"testing"

	"github.com/meshproof/meshproof/suites/e2eframework"
)

func TestOptionsAreCheckedAtOnce(t *testing.T) {
	if _, err := e2eframework.New(e2eframework.Options{Kind: "nonsense"}); err == nil || !strings.Contains(err.Error(), "embedded") {
		t.Errorf("error %v, want one that lists the kinds of cluster", err)
	}
	where, err := e2eframework.New(e2eframework.Options{Kind: "embedded", Programs: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := where.WithName("mine").Create(t.Context()); err == nil {
		t.Error("a cluster came up without programs")
	}
}
