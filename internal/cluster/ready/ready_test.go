package ready

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestAWaitTellsWhyItEndedAndWhatWasMissing(t *testing.T) {
	enough, missing := errors.New("that is enough"), errors.New("there is no node")
	ctx, cancel := context.WithCancelCause(t.Context())
	attempts := 0
	err := Until(ctx, time.Millisecond, func(ctx context.Context) error {
		if attempts++; attempts == 3 {
			cancel(enough)
			return ctx.Err() // says nothing new
		}
		return missing
	})
	if want := "that is enough: there is no node"; err == nil || err.Error() != want || !errors.Is(err, enough) || !errors.Is(err, missing) {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := Until(ctx, time.Millisecond, func(ctx context.Context) error { return ctx.Err() }); err != enough {
		t.Errorf("a wait that has ended before: %v", err)
	}
}

func TestAWaitEndsWithTheFirstSuccess(t *testing.T) {
	attempts := 0
	err := Until(t.Context(), time.Millisecond, func(context.Context) error {
		if attempts++; attempts < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || attempts != 3 {
		t.Errorf("after %d attempts: %v", attempts, err)
	}
}

func TestAConditionSaysWhyNot(t *testing.T) {
	node := func(conditions ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"kind": "Node", "metadata": map[string]any{"name": "a"}, "status": map[string]any{"conditions": conditions}}}
	}
	is := func(status string) any {
		return map[string]any{"type": "Ready", "status": status, "message": "no CNI"}
	}
	for _, test := range []struct {
		object *unstructured.Unstructured
		want   string
	}{
		{node(is("True")), ""},
		{node(is("False")), "Node a is not Ready: no CNI"},
		{node(), "Node a does not say whether it is Ready"},
	} {
		got := ""
		if err := Condition(test.object, "Ready"); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
