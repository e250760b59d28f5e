package kube

import (
	"fmt"
	"log/slog"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// unlimited switches off the client's own rate limit: the API server has a
// fairer one, and the default of five requests a second would hold up pods.
const unlimited = -1

// codecs are made at first use: most roles of the agent have none.
var codecs = sync.OnceValue(func() serializer.CodecFactory { return serializer.NewCodecFactory(newScheme()) })

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, admissionregistrationv1.AddToScheme, authenticationv1.AddToScheme, coordinationv1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	return s
}

// Config is the access of a pod's ServiceAccount, or that of a kubeconfig file
// when one is named.
func Config(kubeconfig, userAgent string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find access to the API server: %w", err)
	}
	// The libraries' own log lines join ours.
	klog.SetSlogLogger(slog.Default())
	config.UserAgent = userAgent
	config.QPS = unlimited
	return config, nil
}

// For returns a client of one built-in API group. It speaks protobuf, which
// every built-in kind understands.
func For(config *rest.Config, group schema.GroupVersion) (*rest.RESTClient, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &group
	c.APIPath = "/apis"
	if group.Group == "" {
		c.APIPath = "/api"
	}
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c.NegotiatedSerializer = codecs().WithoutConversion()
	made, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("make a client of API group %s: %w", group, err)
	}
	return made, nil
}
