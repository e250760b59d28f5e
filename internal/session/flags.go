package session

import (
	"flag"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/providers"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/images/reference"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
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
	flags.IntVar(&o.Parallel, "parallel", 0, "`number` of scenarios that run side by side; 0 is all, or a few per node where containers are real ones")
	flags.StringVar(&f.archives, "images-from", "", "archive `files` with further images for the cluster, separated by commas")
	flags.Func("dialect", "`dialect` that the mesh speaks and is judged by: documented or linkerd (default that of a mesh that stands, else documented)", func(text string) error {
		_, err := api.ParseDialect(text)
		o.Mesh.Dialect = text
		return err
	})
	flags.Func("budget", "`WHAT=TIME` that something may take where a scenario does not say it: transition, from the acknowledgement of a write until it is in force (default 5s); repeatable", o.budget)
	mesh.ImageFlags(flags, &o.Mesh)
	return f
}

// budget reads what --budget says.
func (o *Options) budget(text string) error {
	what, length, ok := strings.Cut(text, "=")
	if !ok || what != "transition" {
		return fmt.Errorf("want transition=TIME, such as transition=2s")
	}
	budget, err := time.ParseDuration(length)
	if err != nil || budget <= 0 {
		return fmt.Errorf("%q is no time such as 2s", length)
	}
	o.TransitionBudget = budget
	return nil
}

// Options are the session's options that the flags say; the caller adds what is
// his. why says which provider was chosen when the user left it open.
func (f *Flags) Options() (options Options, why string, err error) {
	options = f.options
	if options.Provider, why, err = f.Provider(); err != nil {
		return Options{}, "", err
	}
	if err := imagesCanBe(options); err != nil {
		return Options{}, "", err
	}
	options.Programs = f.Programs
	if f.archives != "" {
		options.Archives = strings.Split(f.archives, ",")
	}
	return options, why, nil
}

// imagesCanBe refuses what is no image, and images that the clusters of a
// provider cannot have: those that bring their images along know no others.
func imagesCanBe(o Options) error {
	foreseen, ok := o.Provider.(cluster.Foreseen)
	local := ok && foreseen.Capabilities().LocalImages
	for _, asked := range []struct {
		option, value string
		valid         bool
	}{
		{"registry", o.Mesh.Registry, true},
		{"proxy-image", o.Mesh.ProxyImage, reference.Valid(o.Mesh.ProxyImage)},
		{"controller-image", o.Mesh.ControllerImage, reference.Valid(o.Mesh.ControllerImage)},
	} {
		switch {
		case asked.value == "":
		case !asked.valid:
			return &cluster.OptionError{Option: asked.option, Problem: fmt.Sprintf("%q is no image's name such as registry.example/name:tag", asked.value)}
		case local:
			return &cluster.OptionError{Option: asked.option,
				Problem: fmt.Sprintf("the %s cluster has this project's own images and no others; use it with --cluster kind or kubeconfig", o.Provider.Kind())}
		}
	}
	if policy := o.Mesh.ImagePullPolicy; policy != "" && !values.ValidPullPolicy(corev1.PullPolicy(policy)) {
		return &cluster.OptionError{Option: "image-pull-policy", Problem: fmt.Sprintf("%q is none of Always, IfNotPresent and Never", policy)}
	}
	return nil
}
