package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheCRDsInTheTreeAreThoseOfTheTypes(t *testing.T) {
	want, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := existing("..")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("go generate ./internal/policy/api has not been run: -would be written +in the tree\n%s", diff)
	}
}

func TestTheDeepCopiesInTheTreeAreThoseOfTheTypes(t *testing.T) {
	want, err := exec.Command("go", "tool", "controller-gen", "object", "paths=..", "output:stdout").Output()
	if err != nil {
		t.Fatalf("controller-gen: %v", err)
	}
	got, err := os.ReadFile("../zz_generated.deepcopy.go")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("go generate ./internal/policy/api has not been run: -would be written +in the tree\n%s", diff)
	}
}

func TestATableThatNamesNoFieldIsRefused(t *testing.T) {
	kinds[0].Versions[0].Lacks = []string{"spec.nothing"}
	defer func() { kinds[0].Versions[0].Lacks = nil }()
	if _, err := generate(".."); err == nil {
		t.Error("a field that the type lacks was accepted")
	}
}
