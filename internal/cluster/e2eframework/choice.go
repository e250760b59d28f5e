package e2eframework

import (
	"strings"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/providers"
)

// Choice adapts the kind of cluster that a user has chosen by flags. What a
// suite asks for by WithVersion, WithPath or CreateWithConfig goes before the
// user's choice; a version that is not the reference of an image is that of
// kind's own node image. Errors are those of providers.Choice.
func Choice(choice providers.Choice) *Adapter {
	a := NewFrom(func(s Settings) (cluster.Provider, error) {
		wanted := choice
		if s.Version != "" {
			wanted.KindImage = nodeImage(s.Version)
		}
		if s.Config != "" {
			wanted.KindConfig = s.Config
		}
		wanted.Programs = s.Programs
		provider, _, err := wanted.Provider()
		return provider, err
	})
	a.settings.Programs = choice.Programs
	return a
}

func nodeImage(version string) string {
	if strings.ContainsAny(version, "/:@") {
		return version
	}
	return "kindest/node:" + version
}
