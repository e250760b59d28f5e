package controller

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// Ports of the role, as the package comment lists them.
const (
	defaultGRPCAddr    = ":8090"
	defaultWebhookAddr = ":9443"
	defaultAdminAddr   = "0.0.0.0:9996"
	defaultObserveAddr = "127.0.0.1:9990"

	defaultTokenFile = "/var/run/secrets/tokens/linkerd-identity-token"
	// serviceAccount is the one that the role runs under, which its name in the
	// mesh follows from.
	serviceAccount         = "linkerd-destination"
	identityServiceAccount = "linkerd-identity"
)

// options are the flags as typed; empty settings are filled from the ConfigMap.
type options struct {
	namespace       string
	defaultPolicy   string
	clusterNetworks string
	probeNetworks   string
	identityDomain  string
	dialect         string

	grpcAddr, webhookAddr, adminAddr, observeAddr string

	identityAddr, identityName, tokenFile, localName string
	plaintext                                        bool
	kubeconfig                                       string
	// typed holds the names of the flags that were given.
	typed map[string]bool
}

func parseOptions(args []string) (options, error) {
	o := options{typed: map[string]bool{}}
	namespace := os.Getenv("POD_NAMESPACE")
	if namespace == "" {
		namespace = values.Namespace
	}
	flags := flag.NewFlagSet("policy", flag.ContinueOnError)
	flags.StringVar(&o.namespace, "control-plane-namespace", namespace, "namespace of the control plane")
	flags.StringVar(&o.defaultPolicy, "default-policy", "", "default policy of pods that have none of their own")
	flags.StringVar(&o.clusterNetworks, "cluster-networks", "", "comma-separated ranges that count as inside the cluster")
	flags.StringVar(&o.probeNetworks, "probe-networks", "", "comma-separated ranges that probes may come from")
	flags.StringVar(&o.identityDomain, "identity-domain", "", "last part of identities")
	flags.StringVar(&o.dialect, "dialect", "", api.DialectDocumented+" or "+api.DialectLinkerd)
	flags.StringVar(&o.grpcAddr, "grpc-addr", defaultGRPCAddr, "address of the policy service")
	flags.StringVar(&o.webhookAddr, "webhook-addr", defaultWebhookAddr, "address of the validating webhook; empty switches it off")
	flags.StringVar(&o.adminAddr, "admin-addr", defaultAdminAddr, "address of /metrics, /live and /ready")
	flags.StringVar(&o.observeAddr, "observe-addr", defaultObserveAddr, "loopback address of /observed")
	flags.StringVar(&o.identityAddr, "identity-addr", "", "host:port of the identity service")
	flags.StringVar(&o.identityName, "identity-name", "", "name that the identity service proves")
	flags.StringVar(&o.tokenFile, "token-file", defaultTokenFile, "ServiceAccount token for the identity service")
	flags.StringVar(&o.localName, "local-name", "", "own name in the mesh")
	flags.BoolVar(&o.plaintext, "plaintext", false, "serve the policy service without mesh TLS (for tests)")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "access to the API server when not in a pod")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	flags.Visit(func(f *flag.Flag) { o.typed[f.Name] = true })
	return o, o.loopback()
}

// loopback refuses to show /observed to others than this pod.
func (o options) loopback() error {
	host, _, err := net.SplitHostPort(o.observeAddr)
	if err != nil {
		return fmt.Errorf("--observe-addr %q: %w", o.observeAddr, err)
	}
	if address, err := netip.ParseAddr(host); err != nil || !address.IsLoopback() {
		return fmt.Errorf("--observe-addr %q: want a loopback address", o.observeAddr)
	}
	return nil
}

// readValues reads the cluster's configuration; a missing ConfigMap is a cluster
// without any.
func readValues(ctx context.Context, core rest.Interface, namespace string) (values.Values, error) {
	list := &corev1.ConfigMapList{}
	selected := metav1.ListOptions{FieldSelector: "metadata.name=" + values.ConfigMapName}
	err := core.Get().Namespace(namespace).Resource("configmaps").VersionedParams(&selected, metav1.ParameterCodec).Do(ctx).Into(list)
	if err != nil {
		return values.Values{}, fmt.Errorf("read ConfigMap %s/%s: %w", namespace, values.ConfigMapName, err)
	}
	for _, found := range list.Items {
		read, err := values.Parse([]byte(found.Data[values.Key]))
		if err != nil {
			return values.Values{}, fmt.Errorf("ConfigMap %s/%s, key %s: %w", namespace, values.ConfigMapName, values.Key, err)
		}
		return read, nil
	}
	return values.Default(), nil
}

// config is what the flags and, where they are silent, v say.
func (o options) config(v values.Values) (index.Config, error) {
	choose := func(flag, typed, otherwise string) string {
		if o.typed[flag] {
			return typed
		}
		return otherwise
	}
	c := index.Config{
		ControlPlaneNamespace: o.namespace,
		IdentityDomain:        choose("identity-domain", o.identityDomain, v.IdentityTrustDomain),
		DefaultPolicy:         api.PolicyName(choose("default-policy", o.defaultPolicy, string(v.DefaultInboundPolicy))),
	}
	if !c.DefaultPolicy.Valid() {
		return c, fmt.Errorf("default policy %q is not one of %v", c.DefaultPolicy, api.PolicyNames())
	}
	var err error
	if c.ClusterNetworks, err = index.ParseNetworks(choose("cluster-networks", o.clusterNetworks, strings.Join(v.ClusterNetworks, ","))); err != nil {
		return c, fmt.Errorf("cluster networks: %w", err)
	}
	if c.ProbeNetworks, err = index.ParseNetworks(choose("probe-networks", o.probeNetworks, strings.Join(v.ProbeNetworks, ","))); err != nil {
		return c, fmt.Errorf("probe networks: %w", err)
	}
	c.Dialect, err = api.ParseDialect(choose("dialect", o.dialect, v.Dialect))
	return c, err
}

// identities fills the names that follow from the configuration.
func (o *options) identities(v values.Values, c index.Config) {
	if o.identityAddr == "" {
		o.identityAddr = fmt.Sprintf("linkerd-identity-headless.%s.svc.%s:8080", o.namespace, v.ClusterDomain)
	}
	if o.identityName == "" {
		o.identityName = values.Identity(identityServiceAccount, o.namespace, o.namespace, c.IdentityDomain)
	}
	if o.localName == "" {
		o.localName = values.Identity(serviceAccount, o.namespace, o.namespace, c.IdentityDomain)
	}
}
