package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/sync/errgroup"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	cmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"github.com/meshproof/meshproof/cmd/meshproof-kube/twin"
)

const (
	// etcdStartTimeout is how long the store may take to elect itself.
	etcdStartTimeout = 30 * time.Second
	// apiPollInterval is how often the API server is asked whether it is
	// healthy before the components that need it are started: their own polls
	// have a period of a second.
	apiPollInterval = 20 * time.Millisecond
	// apiPollTimeout bounds one such question.
	apiPollTimeout = 2 * time.Second
	// etcdTick and etcdElection are the store's shortest sensible periods: it
	// has no peers, and the election is part of the start-up.
	etcdTick, etcdElection = 10, 50
	// walSegment is the size in bytes a log file is preallocated with.
	walSegment = 4 << 20
)

// controllers are the loops a test cluster needs. What is missing on purpose:
// everything about volumes that outlive pods, cloud, autoscaling, certificate
// requests, node life cycle (there is one node, and it lives as long as the
// cluster) and disruption budgets.
const controllers = "serviceaccount-token-controller,serviceaccount-controller,root-ca-certificate-publisher-controller," +
	"namespace-controller,garbage-collector-controller,pod-garbage-collector-controller," +
	"deployment-controller,replicaset-controller,replicationcontroller-controller,daemonset-controller,statefulset-controller," +
	"job-controller,cronjob-controller,ttl-after-finished-controller,endpointslice-controller,endpoints-controller,endpointslice-mirroring-controller," +
	"clusterrole-aggregation-controller,resourcequota-controller,validatingadmissionpolicy-status-controller"

// controlPlane runs the store, the API server, the controller manager and the
// scheduler until ctx ends or one of them does.
func controlPlane(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("control-plane", flag.ContinueOnError)
	state := flags.String("state", "", "folder with pki/, and where the store keeps its files")
	address := flags.String("address", "", "address the API server listens on and advertises")
	port := flags.Int("port", 6443, "port of that address")
	services := flags.String("service-cidr", "10.96.0.0/16", "range of ClusterIPs")
	listenFD := flags.Int("listen-fd", -1, "inherited listening socket to serve the API on as well")
	verbosity := flags.Int("v", 1, "log level of the components")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *state == "" || *address == "" {
		return errors.New("--state and --address are required")
	}
	if err := setVerbosity(*verbosity); err != nil {
		return err
	}
	// The components talk to each other here: warnings about their own use of
	// old versions help nobody.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	listener, err := twin.Listen(net.JoinHostPort(*address, fmt.Sprint(*port)), *listenFD)
	if err != nil {
		return err
	}
	pki := func(name string) string { return filepath.Join(*state, "pki", name) }

	store, err := startEtcd(ctx, filepath.Join(*state, "etcd"))
	if err != nil {
		return err
	}
	defer store.Close()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case err := <-store.Err():
			return fmt.Errorf("etcd: %w", err)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		return named(ctx, "kube-apiserver", runAPIServer(ctx, listener, *address, *services, pki))
	})
	if err := waitHealthy(ctx, "https://"+listener.Addr().String()+"/healthz"); err != nil {
		return errors.Join(err, group.Wait())
	}
	group.Go(func() error { return named(ctx, "kube-controller-manager", runControllerManager(ctx, pki)) })
	group.Go(func() error { return named(ctx, "kube-scheduler", runScheduler(ctx, pki)) })
	return group.Wait()
}

// named says which component ended; that a component ends at all before ctx
// does is an error even when it calls it none.
func named(ctx context.Context, component string, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("ended by itself")
	}
	return fmt.Errorf("%s: %w", component, err)
}

func startEtcd(ctx context.Context, dir string) (*embed.Etcd, error) {
	// The default preallocates 64 MB for a store that holds two.
	wal.SegmentSizeBytes = walSegment
	config := embed.NewConfig()
	config.Name = "meshproof"
	config.Dir = dir
	client, peer := url.URL{Scheme: "http", Host: "127.0.0.1:2379"}, url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.TickMs, config.ElectionMs = etcdTick, etcdElection
	// Nobody reads this store after its process has gone.
	config.UnsafeNoFsync = true
	config.LogLevel = "error"
	config.LogOutputs = []string{"stderr"}
	store, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	timeout := time.NewTimer(etcdStartTimeout)
	defer timeout.Stop()
	select {
	case <-store.Server.ReadyNotify():
		return store, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("no leader after %s", etcdStartTimeout)
	}
	store.Close()
	return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
}

func runAPIServer(ctx context.Context, listener net.Listener, address, services string, pki func(string) string) error {
	options := apiserveroptions.NewServerRunOptions()
	const issuer = "https://kubernetes.default.svc.cluster.local"
	if err := parse(options.Flags(), []string{
		"--advertise-address=" + address,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--client-ca-file=" + pki("ca.crt"),
		"--enable-admission-plugins=NodeRestriction",
		// No node life cycle controller runs, so nobody would lift the taint.
		"--disable-admission-plugins=TaintNodesByCondition,PersistentVolumeClaimResize,StorageObjectInUseProtection,DefaultStorageClass,ClusterTrustBundleAttest,CertificateApproval,CertificateSigning,CertificateSubjectRestriction",
		"--enable-priority-and-fairness=false",
		"--endpoint-reconciler-type=master-count",
		"--etcd-servers=http://127.0.0.1:2379",
		"--etcd-count-metric-poll-period=0",
		"--etcd-db-metric-poll-interval=0",
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--profiling=false",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + pki("sa.pub"),
		"--service-account-signing-key-file=" + pki("sa.key"),
		"--service-cluster-ip-range=" + services,
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--shutdown-delay-duration=0s",
	}); err != nil {
		return err
	}
	options.SecureServing.Listener = listener
	if err := options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("set feature gates: %w", err)
	}
	completed, err := options.Complete(ctx)
	if err != nil {
		return fmt.Errorf("complete options: %w", err)
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return fmt.Errorf("validate options: %w", errors.Join(errs...))
	}
	return apiserver.Run(ctx, completed)
}

func runControllerManager(ctx context.Context, pki func(string) string) error {
	options, err := cmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("make options: %w", err)
	}
	known, disabled, aliases := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault(), controllermanager.ControllerAliases()
	if err := parse(options.Flags(known, disabled, aliases), []string{
		"--controllers=" + controllers,
		"--kubeconfig=" + pki("controller-manager.kubeconfig"),
		"--kube-api-qps=300", "--kube-api-burst=600",
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--root-ca-file=" + pki("ca.crt"),
		"--service-account-private-key-file=" + pki("sa.key"),
		// Batches of endpoint changes are held back for no time at all: how
		// fast a mesh follows them is what is measured.
		"--endpointslice-updates-batch-period=0s", "--endpoint-updates-batch-period=0s",
	}); err != nil {
		return err
	}
	config, err := options.Config(ctx, known, disabled, aliases)
	if err != nil {
		return fmt.Errorf("complete options: %w", err)
	}
	return controllermanager.Run(ctx, config.Complete())
}

func runScheduler(ctx context.Context, pki func(string) string) error {
	options := scheduleroptions.NewOptions()
	if err := parse(*options.Flags, []string{
		"--kubeconfig=" + pki("scheduler.kubeconfig"),
		"--kube-api-qps=300", "--kube-api-burst=600",
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
	}); err != nil {
		return err
	}
	config, sched, err := scheduler.Setup(ctx, options)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return scheduler.Run(ctx, config, sched)
}

// parse sets a component's options the way its command line would.
func parse(sets cliflag.NamedFlagSets, args []string) error {
	all := pflag.NewFlagSet("component", pflag.ContinueOnError)
	all.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	all.SetOutput(io.Discard)
	for _, set := range sets.FlagSets {
		all.AddFlagSet(set)
	}
	if err := all.Parse(args); err != nil {
		return fmt.Errorf("set options: %w", err)
	}
	return nil
}

// waitHealthy asks until the API server calls itself healthy. The certificate
// is not checked: nothing is sent, and the listener is this process' own.
func waitHealthy(ctx context.Context, url string) error {
	client := &http.Client{Timeout: apiPollTimeout, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	tick := time.NewTicker(apiPollInterval)
	defer tick.Stop()
	for {
		if response, err := client.Get(url); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func init() {
	// A panic in one controller must end the process: the cluster then ends
	// with a log instead of standing half dead.
	utilruntime.ReallyCrash = true
}
