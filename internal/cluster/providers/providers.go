// Package providers is the table of the kinds of clusters: it makes the provider
// that a user names, from the settings that only some providers have.
//
// The command line and the suites choose through it, so that both know the same
// kinds and refuse the same mistakes. It makes no cluster itself.
package providers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded"
)

// Options are the settings of all providers. A setting that the chosen one does
// not have must be left empty.
type Options struct {
	// Programs is the folder of this project's programs; empty: the folder of
	// the running one.
	Programs string
	// State is the folder in which clusters are remembered; empty: the default.
	State string
}

// Kinds are the names that New takes.
func Kinds() []string { return []string{embedded.Kind} }

// New makes the provider of that kind. The error says what is wrong with the
// settings.
func New(kind string, options Options) (cluster.Provider, error) {
	switch kind {
	case embedded.Kind:
		return embedded.New(options.Programs, options.State)
	}
	return nil, fmt.Errorf("no kind of cluster is called %q: known are %s", kind, strings.Join(slices.Sorted(slices.Values(Kinds())), ", "))
}
