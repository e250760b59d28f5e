package session

import (
	"flag"
	"strings"

	"github.com/meshproof/meshproof/internal/cluster/providers"
)

// Flags are what a user can say about where and with what a run happens, the
// same for the command line and the suites.
type Flags struct {
	*providers.Choice
	options Options
	// archives are paths, separated by commas.
	archives string
}

// AddFlags adds the flags.
func AddFlags(flags *flag.FlagSet) *Flags {
	f := &Flags{Choice: providers.Flags(flags)}
	o := &f.options
	flags.StringVar(&o.ClusterName, "cluster-name", "", "use the cluster of this `name`: as it stands, or made under this name")
	flags.BoolVar(&o.Keep, "keep", false, "leave the cluster standing")
	flags.IntVar(&o.Parallel, "parallel", 0, "`number` of scenarios that run side by side; 0 is all")
	flags.StringVar(&f.archives, "images-from", "", "archive `files` with further images for the cluster, separated by commas")
	m := &o.Mesh
	//flags.StringVar(&m.ProxyImage, "proxy-image", "", "`image` of a proxy to test in place of the built-in one")
	//flags.StringVar(&m.ControllerImage, "controller-image", "", "`image` of a control plane to test in place of the built-in one")
	flags.StringVar(&m.Registry, "registry", "", "`registry` that has all images (see meshproof images push)")
	//flags.StringVar(&m.ImagePullPolicy, "image-pull-policy", "", "Always, IfNotPresent or Never (default IfNotPresent)")
	return f
}

// Options are the session's options that the flags say; the caller adds what is
// his. why says which provider was chosen when the user left it open.
func (f *Flags) Options() (options Options, why string, err error) {
	options = f.options
	if options.Provider, why, err = f.Provider(); err != nil {
		return Options{}, "", err
	}
	options.Programs = f.Programs
	if f.archives != "" {
		options.Archives = strings.Split(f.archives, ",")
	}
	return options, why, nil
}
