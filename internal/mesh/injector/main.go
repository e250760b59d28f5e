package injector

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/mesh/admin"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/mesh/webhook"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// The role's objects, which the manifests name likewise.
const (
	serviceName       = "linkerd-proxy-injector"
	secretName        = "linkerd-proxy-injector-k8s-tls"
	configurationName = "linkerd-proxy-injector-webhook-config"
)

// Main is the role `injector`.
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("injector", flag.ContinueOnError)
	config := flags.String("config", filepath.Join("/var/run/linkerd/config", values.Key), "file with the mesh's configuration")
	listen := flags.String("listen", ":8443", "address of the webhook")
	adminAddress := flags.String("admin", ":9990", "address of /live, /ready and /metrics")
	kubeconfig := flags.String("kubeconfig", "", "access to the API server when not in a pod")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*config)
	if err != nil {
		return fmt.Errorf("read the mesh's configuration: %w", err)
	}
	v, err := values.Parse(text)
	if err != nil {
		return err
	}
	if err := settleExemption(&v); err != nil {
		return err
	}
	access, err := kube.Config(*kubeconfig, "meshproof-injector")
	if err != nil {
		return err
	}
	core, err := kube.For(access, corev1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	registration, err := kube.For(access, admissionregistrationv1.SchemeGroupVersion)
	if err != nil {
		return err
	}

	server := admin.New()
	events := newRecorder(core)
	h := newHandler(server.Registry, func(ctx context.Context, name string) (*corev1.Namespace, error) {
		namespace := &corev1.Namespace{}
		return namespace, core.Get().Resource("namespaces").Name(name).Do(ctx).Into(namespace)
	}, events.notify)
	hook := &webhook.Server{
		Core: core, Registration: registration,
		Namespace: v.ControlPlaneNamespace, Service: serviceName, Secret: secretName,
		Configuration: configurationName, Mutating: true, Handle: h.handle,
	}
	server.Check("webhook", hook.Ready)
	server.Check("trust anchors", func() error {
		if h.settings.Load() == nil {
			return fmt.Errorf("ConfigMap %s/%s is not there yet", v.ControlPlaneNamespace, kube.TrustRootsName)
		}
		return nil
	})

	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(running, *adminAddress) })
	group.Go(func() error { events.run(running); return nil })
	group.Go(func() error { return hook.Run(running, *listen) })
	group.Go(func() error {
		sidecars, err := nativeSidecars(running, core)
		if err != nil {
			return ended(running, err)
		}
		// Pods that are created after a rotation get the new anchors.
		kube.Watch(running, core, "configmaps", kube.Scope{Namespace: v.ControlPlaneNamespace, Fields: "metadata.name=" + kube.TrustRootsName},
			kube.Latest[*corev1.ConfigMap](func(m *corev1.ConfigMap) {
				if m == nil || m.Data[kube.TrustRootsKey] == "" {
					return
				}
				if settings, err := NewSettings(v, m.Data[kube.TrustRootsKey]); err == nil {
					settings.NoNativeSidecars = !sidecars
					h.settings.Store(&settings)
				}
			}), nil)
		return nil
	})
	return group.Wait()
}

// ended is nil for an error that is only the end of the role.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
