package clusters

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/e2e-framework/klient/wait"
	"sigs.k8s.io/e2e-framework/klient/wait/conditions"
	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/envfuncs"

	"github.com/go-logr/logr"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/e2eframework"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
	"github.com/meshproof/meshproof/internal/cluster/providers"
	"github.com/meshproof/meshproof/internal/cluster/state"
	"github.com/meshproof/meshproof/internal/interrupt"
	"github.com/meshproof/meshproof/workloads/images"
)

const (
	// patience is what a cluster gets for anything but its own creation: a pod's
	// start, a name's way into DNS, a probe's verdict, its end. One that needs
	// longer cannot hold a run.
	patience = 2 * time.Minute
	// pollInterval is how often these tests look again.
	pollInterval = 100 * time.Millisecond
)

// grpcurl is the image of the pods that ask questions, its entry point a client
// that ends with 0 when it is answered.
const grpcurl = "networld/grpcurl:latest"

var (
	choice   = providers.Flags(flag.CommandLine)
	binaries = flag.String("bin", "", "folder of the programs (default $MESHPROOF_BIN, or bin/ of the source tree)")
)

// suite is what TestMain has made.
var suite struct {
	env     env.Environment
	adapter *e2eframework.Adapter
	// ctx ends with the signal to stop.
	ctx context.Context
	// unusable says why nothing can be run here.
	unusable error
	// trouble is why the cluster did not come up, left what is there after its
	// end. The framework lets neither decide about the suite.
	trouble, left error
}

// The exit codes of this project: a claim that does not hold, set-up trouble and
// a wrong command line.
const (
	exitFailed = 1
	exitSetup  = 3
	exitUsage  = 4
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) // or it complains that nobody did
	config, err := envconf.NewFromFlags()
	if err != nil {
		fail(err)
	}
	if choice.Programs, err = programs(); err != nil {
		suite.unusable = err
		os.Exit(m.Run())
	}
	_, why, err := choice.Provider()
	if err != nil {
		fail(err)
	}
	if why != "" {
		fmt.Println(why)
	}
	os.Exit(run(m, config))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "the suite cannot begin:", err)
	var wrong *cluster.OptionError
	if errors.As(err, &wrong) {
		os.Exit(exitUsage)
	}
	os.Exit(exitSetup)
}

// run runs the suite between the creation of its cluster and its end.
func run(m *testing.M, config *envconf.Config) int {
	ctx, release := interrupt.Context(context.Background(), os.Stdout)
	defer release()
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		fail(err)
	}
	suite.adapter = e2eframework.Choice(*choice)
	name := envconf.RandomName("clusters", 14)
	config.WithNamespace(envconf.RandomName("contract", 14))
	suite.ctx = ctx
	suite.env, _ = env.NewWithContext(ctx, config) // both are there
	suite.env.Setup(
		recorded(envfuncs.CreateCluster(suite.adapter, name)),
		recorded(loadImages(name)),
		recorded(envfuncs.CreateNamespace(config.Namespace())),
	)
	suite.env.Finish(func(ctx context.Context, config *envconf.Config) (context.Context, error) {
		suite.left = end(ctx, config)
		return ctx, nil
	})
	code := suite.env.Run(m)
	var by *interrupt.Signal
	switch {
	case suite.left != nil:
		fmt.Fprintln(os.Stderr, "FAIL: the end of the cluster:", suite.left)
		return max(code, exitFailed)
	case errors.As(context.Cause(ctx), &by):
		return by.ExitCode()
	case suite.trouble != nil:
		return exitSetup
	}
	return code
}

// recorded keeps the reason why a step of the set-up fails.
func recorded(step env.Func) env.Func {
	return func(ctx context.Context, config *envconf.Config) (context.Context, error) {
		ctx, suite.trouble = step(ctx, config)
		return ctx, suite.trouble
	}
}

// loadImages brings the images of these tests' pods into a cluster that does not
// have them.
func loadImages(name string) env.Func {
	return func(ctx context.Context, config *envconf.Config) (context.Context, error) {
		if choice.Kind == kubeconfig.Kind {
			return ctx, nil // it pulls them
		}
		for _, image := range []string{images.Agent, grpcurl} {
			if _, err := envfuncs.LoadImageToCluster(name, image)(ctx, config); err != nil {
				return ctx, err
			}
		}
		return ctx, nil
	}
}

// end gives the cluster back and looks whether anything is left of it. An end
// must not be cut short by the signal that asked for it.
func end(ctx context.Context, config *envconf.Config) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	c := suite.adapter.Cluster()
	if c == nil {
		return nil
	}
	if choice.Kind == kubeconfig.Kind {
		return errors.Join(removed(ctx, config, config.Namespace()), suite.adapter.Destroy(ctx))
	}
	if err := suite.adapter.Destroy(ctx); err != nil {
		return err
	}
	return gone(ctx, c)
}

// removed removes a namespace and waits until it is gone with all that is in it.
func removed(ctx context.Context, config *envconf.Config, name string) error {
	client := config.Client().Resources()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := client.Delete(ctx, namespace); err != nil {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	if err := soon(ctx, conditions.New(client).ResourceDeleted(namespace)); err != nil {
		return fmt.Errorf("wait until namespace %s is gone: %w", name, err)
	}
	return nil
}

// gone reports what is left of a cluster that has ended.
func gone(ctx context.Context, c cluster.Cluster) error {
	provider, _, err := choice.Provider()
	if err != nil {
		return err
	}
	infos, err := provider.List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(infos, func(i cluster.Info) bool { return i.Name == c.Name() }) {
		return fmt.Errorf("cluster %q has ended, and is listed", c.Name())
	}
	if _, err := provider.Open(ctx, c.Name()); !errors.Is(err, cluster.ErrNotFound) {
		return fmt.Errorf("cluster %q has ended, and opens: %v", c.Name(), err)
	}
	if _, err := os.Stat(c.Kubeconfig()); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cluster %q has ended, and its kubeconfig is there: %v", c.Name(), err)
	}
	return forgotten(c.Name())
}

// forgotten looks for whatever is called after a cluster in the folder in which
// clusters are remembered. It is the one that the command line uses, so that
// `meshproof cleanup` finds what this suite leaves when it is killed.
func forgotten(name string) error {
	dir, err := state.Dir()
	if err != nil {
		return err
	}
	for _, pattern := range []string{name, "*/" + name, "*/*/" + name} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("cluster %q has ended and left %s", name, strings.Join(left, ", "))
		}
	}
	return nil
}

// programs finds bin/ of the source tree, or says why there is nothing to run.
func programs() (string, error) {
	bin := *binaries
	if bin == "" {
		bin = os.Getenv("MESHPROOF_BIN")
	}
	if bin == "" {
		bin = "../../bin" // where go test runs this package
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"meshproof", "meshproof-agent", "meshproof-kube", "grpcurl"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("%s is not there: run `make build` first", filepath.Join(bin, name))
		}
	}
	return bin, nil
}

// needs skips a test that cannot run here.
func needs(t *testing.T) {
	t.Helper()
	if suite.unusable != nil {
		t.Skip(suite.unusable)
	}
	if suite.ctx.Err() != nil {
		t.Skip(context.Cause(suite.ctx))
	}
}

// needsClusters skips a test that makes clusters where there is only the one.
func needsClusters(t *testing.T) {
	t.Helper()
	needs(t)
	if choice.Kind == kubeconfig.Kind {
		t.Skip("a kubeconfig names one cluster: none is made, and none is ended")
	}
}

// soon waits for a condition.
func soon(ctx context.Context, condition func(context.Context) (bool, error)) error {
	return wait.For(condition, wait.WithContext(ctx), wait.WithTimeout(patience), wait.WithInterval(pollInterval), wait.WithImmediate())
}

// clientset is a client with what klient does not offer: logs and streams.
func clientset(t *testing.T, config *envconf.Config) *kubernetes.Clientset {
	t.Helper()
	set, err := kubernetes.NewForConfig(config.Client().RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ready reports whether an object's condition of a type is true.
func ready(node corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
