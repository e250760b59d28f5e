package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"

	"github.com/meshproof/meshproof/cmd/meshproof-kube/mounts"
	"github.com/meshproof/meshproof/cmd/meshproof-kube/ownership"
)

const (
	// maxPods is the node's capacity.
	maxPods = 250
	// statusReport is how often an unchanged node is reported, and leaseSeconds
	// how long its lease is good for: nobody evicts from the only node, so both
	// are long, which keeps an idle cluster idle.
	statusReport = 5 * time.Minute
	leaseSeconds = 120
	// volumeStats is how often volumes are measured; nobody reads it.
	volumeStats = time.Hour
	// runtimeTimeout bounds a call to the container runtime.
	runtimeTimeout = 2 * time.Minute
	// restartPause is how long a container that ends again and again waits for its
	// next start, the least that may be said. Here most have been killed by a fault,
	// and what a fault has ended is to be back when it is over: the usual pauses,
	// which double from 10 seconds on, would be most of a run.
	restartPause = time.Second
)

// runKubelet runs the node agent against a container runtime's socket until
// ctx ends.
func runKubelet(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("kubelet", flag.ContinueOnError)
	state := flags.String("state", "", "folder with pki/, and where pods' files and logs go")
	node := flags.String("node", "meshproof", "name of the node")
	address := flags.String("address", "", "the node's address")
	dns := flags.String("cluster-dns", "", "address of the DNS server of pods")
	runtime := flags.String("runtime", "", "the container runtime's socket, as unix:///path")
	verbosity := flags.Int("v", 1, "log level")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *state == "" || *address == "" || *runtime == "" {
		return errors.New("--state, --address and --runtime are required")
	}
	if err := setVerbosity(*verbosity); err != nil {
		return err
	}
	if single, err := ownership.SingleUID(); err != nil {
		return err
	} else if single {
		if err := ownership.Pretend(); err != nil {
			return err
		}
	}
	config, err := options.NewKubeletConfiguration()
	if err != nil {
		return fmt.Errorf("make configuration: %w", err)
	}
	server := &options.KubeletServer{KubeletFlags: *options.NewKubeletFlags(), KubeletConfiguration: *config}
	configure(server, *state, *node, *address, *dns, *runtime)
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(server.FeatureGates); err != nil {
		return fmt.Errorf("set feature gates: %w", err)
	}
	deps, err := kubelet.UnsecuredDependencies(ctx, server, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("make dependencies: %w", err)
	}
	// The stock mounter runs the program "mount", which need not exist here.
	deps.Mounter = mounts.New()
	deps.Subpather = subpath.New(deps.Mounter)
	deps.HostUtil = hostutil.NewHostUtil()
	return kubelet.Run(ctx, server, deps, utilfeature.DefaultFeatureGate)
}

func configure(server *options.KubeletServer, state, node, address, dns, runtime string) {
	pki := func(name string) string { return filepath.Join(state, "pki", name) }

	server.HostnameOverride = node
	server.NodeIP = address
	server.KubeConfig = pki("kubelet.kubeconfig")
	server.RootDirectory = filepath.Join(state, "kubelet")
	server.CertDirectory = pki("")
	server.RegisterNode = true

	server.ContainerRuntimeEndpoint = runtime
	// No trailing slash: the path is compared with the runtime's answers.
	server.PodLogsDir = filepath.Join(state, "logs", "pods")
	server.RuntimeRequestTimeout = metav1.Duration{Duration: runtimeTimeout}

	// Authentication and authorization are delegated to the API server, as on
	// any node.
	server.Authentication.Anonymous.Enabled = false
	server.Authentication.Webhook.Enabled = true
	server.Authentication.X509.ClientCAFile = pki("ca.crt")
	server.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	server.TLSCertFile = pki("kubelet.crt")
	server.TLSPrivateKeyFile = pki("kubelet.key")
	server.RotateCertificates = false
	server.Address = address
	server.ReadOnlyPort = 0
	server.HealthzPort = 0

	server.ClusterDomain = "cluster.local"
	if dns != "" {
		server.ClusterDNS = []string{dns}
	}
	// Pods get their resolver from the cluster; there is none beyond it.
	server.ResolverConfig = ""

	// There are no control groups to manage: the user who runs this may own none.
	server.CgroupsPerQOS = false
	server.EnforceNodeAllocatable = nil
	server.FailCgroupV1 = false
	server.FailSwapOn = false
	server.LocalStorageCapacityIsolation = false
	server.MakeIPTablesUtilChains = false
	server.ProtectKernelDefaults = false
	server.OOMScoreAdj = 0
	server.EvictionHard = map[string]string{}
	server.ImageGCHighThresholdPercent = 100
	server.ImageGCLowThresholdPercent = 99
	// Not EventedPLEG, which would learn of pods a second sooner: on a busy node
	// its cache lags behind the kubelet's own starts, and a container that runs
	// is started a second time beside the first.
	server.FeatureGates = map[string]bool{"KubeletInUserNamespace": true}

	server.MaxPods = maxPods
	server.PodsPerCore = 0
	server.SerializeImagePulls = false
	server.CrashLoopBackOff.MaxContainerRestartPeriod = &metav1.Duration{Duration: restartPause}
	server.KubeAPIQPS, server.KubeAPIBurst = 200, 400
	server.EventRecordQPS, server.EventBurst = 100, 200
	server.NodeStatusReportFrequency = metav1.Duration{Duration: statusReport}
	server.NodeLeaseDurationSeconds = leaseSeconds
	server.VolumeStatsAggPeriod = metav1.Duration{Duration: volumeStats}
	server.EnableProfilingHandler = false
	server.EnableDebuggingHandlers = true
	server.ShutdownGracePeriod = metav1.Duration{}
}
