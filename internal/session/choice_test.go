package session

import (
	"flag"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

func TestFeaturesAreChosenByRepeatedAndByListedFlags(t *testing.T) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	choice := ChoiceFlags(flags)
	if err := flags.Parse([]string{"-features", "Probes, Authz", "-features=Server", "-exempt-features", "TLS", "-profile", "core"}); err != nil {
		t.Fatal(err)
	}
	if want := []scenarios.Feature{"Probes", "Authz", "Server"}; !slices.Equal(choice.Only, want) {
		t.Errorf("only %v, want %v", choice.Only, want)
	}
	if want := []scenarios.Feature{"TLS"}; !slices.Equal(choice.Exempt, want) || choice.Profile != scenarios.Core {
		t.Errorf("exempt %v in profile %s", choice.Exempt, choice.Profile)
	}
}

func TestWhatIsNoFeatureProfileOrDialectIsRefused(t *testing.T) {
	for _, args := range []string{"-features Proobes", "-exempt-features Probes,", "-profile most", "-dialect klingon"} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		ChoiceFlags(flags)
		AddFlags(flags)
		if err := flags.Parse(strings.Fields(args)); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
}

func TestTheDialectThatIsAskedForIsTheMeshs(t *testing.T) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	f := AddFlags(flags)
	if err := flags.Parse([]string{"-dialect", "linkerd", "-cluster", "embedded"}); err != nil {
		t.Fatal(err)
	}
	options, _, err := f.Options()
	if err != nil {
		t.Fatal(err)
	}
	if options.Mesh.Dialect != "linkerd" {
		t.Errorf("the mesh speaks %q", options.Mesh.Dialect)
	}
}
