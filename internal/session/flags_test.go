package session

import (
	"flag"
	"io"
	"testing"
	"time"
)

func TestABudgetIsForSomethingThatIsKnown(t *testing.T) {
	for _, one := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"transition=2s", 2 * time.Second, true},
		{"transition=0s", 0, false}, {"transition=2", 0, false}, {"transition", 0, false}, {"transitions=2s", 0, false},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		f := AddFlags(flags)
		err := flags.Parse([]string{"-budget", one.text})
		if (err == nil) != one.ok || f.options.TransitionBudget != one.want {
			t.Errorf("%s: %s, %v", one.text, f.options.TransitionBudget, err)
		}
	}
}
