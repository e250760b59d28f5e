package report

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// component is who the events are from (S-02).
const component = "linkerd.io/policy-controller"

// Events writes findings as core/v1 Events. The same finding has the same name,
// so that a restarted controller, or a second replica, renews it instead of adding
// another.
type Events struct {
	Core rest.Interface
	// Now defaults to time.Now.
	Now func() time.Time
}

// apiVersions are those that involved objects are referred to by.
var apiVersions = map[string]string{
	api.ServerKind:                   api.Servers.GroupVersion().String(),
	api.ServerAuthorizationKind:      api.ServerAuthorizations.GroupVersion().String(),
	api.AuthorizationPolicyKind:      api.AuthorizationPolicies.GroupVersion().String(),
	api.MeshTLSAuthenticationKind:    api.MeshTLSAuthentications.GroupVersion().String(),
	api.NetworkAuthenticationKind:    api.NetworkAuthentications.GroupVersion().String(),
	api.HTTPLocalRateLimitPolicyKind: api.HTTPLocalRateLimitPolicies.GroupVersion().String(),
	string(index.PolicyHTTPRoute):    api.HTTPRoutes.GroupVersion().String(),
	string(index.GatewayHTTPRoute):   api.GatewayHTTPRoutes.GroupVersion().String(),
	string(index.GatewayGRPCRoute):   api.GatewayGRPCRoutes.GroupVersion().String(),
	"Pod":                            "v1",
	api.NamespaceKind:                "v1",
}

// eventType is a warning unless the state is a usual one on the way to another:
// documents advise to create authorizations first.
func eventType(reason index.Reason) string {
	if reason == index.NoSuchServer || reason == index.NoSuchRoute {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

// Record implements Recorder.
func (e Events) Record(ctx context.Context, finding index.Finding) error {
	now := time.Now
	if e.Now != nil {
		now = e.Now
	}
	at := metav1.NewTime(now())
	namespace := finding.Object.Namespace
	if namespace == "" {
		// Where events about objects without a namespace are kept.
		namespace = metav1.NamespaceDefault
	}
	kind, _, _ := strings.Cut(finding.Object.Kind, ".")
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: eventName(finding)},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: apiVersions[finding.Object.Kind], Kind: kind,
			Namespace: finding.Object.Namespace, Name: finding.Object.Name, UID: types.UID(finding.Object.UID),
		},
		Type: eventType(finding.Reason), Reason: string(finding.Reason), Message: finding.Message,
		Source: corev1.EventSource{Component: component}, FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}
	err := e.Core.Post().Namespace(namespace).Resource("events").Body(event).Do(ctx).Error()
	if !apierrors.IsAlreadyExists(err) {
		return wrap(event, err)
	}
	text, err := json.Marshal(map[string]any{"lastTimestamp": at})
	if err != nil {
		return wrap(event, err)
	}
	return wrap(event, e.Core.Patch(types.MergePatchType).Namespace(namespace).Resource("events").Name(event.Name).Body(text).Do(ctx).Error())
}

func wrap(event *corev1.Event, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write event %s on %s %s/%s: %w", event.Reason, event.InvolvedObject.Kind, event.InvolvedObject.Namespace, event.InvolvedObject.Name, err)
}

func eventName(finding index.Finding) string {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%s\n%s\n%s\n%s", finding.Object.Kind, finding.Object.UID, finding.Reason, finding.Message)
	return fmt.Sprintf("%s.%016x", finding.Object.Name, sum.Sum64())
}
