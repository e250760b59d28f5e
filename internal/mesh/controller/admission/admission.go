// Package admission is the judgement of the validating webhook: it looks at one
// policy or route at a time and admits it or says, field by field, what is wrong
// (section 2 of the rule book). There is a small file for each kind.
//
// A review goes in, the kind's judge reads its spec, and a verdict comes out:
// problems, each with the path of its field, refuse the object; warnings are
// shown to whoever wrote it.
//
// It refuses what cannot be meant. It never asks whether what an object refers to
// exists, nor whether another object says the same, and it admits what the
// index then tells about, such as an empty client. Fields that API servers
// check by schema are checked again where their absence would mean something.
package admission

import (
	"context"
	stdjson "encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	// Field names are case-sensitive to the API server, but not to the standard
	// library.
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// review is what of a reviewed object its judge looks at.
type review struct {
	namespace   string
	annotations map[string]string
	spec        []byte
}

// read decodes the spec. An error means that it does not deserialise.
func (r review) read(into any) error { return json.Unmarshal(r.spec, into) }

// verdict collects what is found.
type verdict struct {
	problems index.Problems
	warnings []string
}

func (v *verdict) refuse(field, format string, args ...any) {
	v.problems = append(v.problems, index.Problem{Field: field, Text: fmt.Sprintf(format, args...)})
}

func (v *verdict) warn(field, format string, args ...any) {
	v.warnings = append(v.warnings, field+": "+fmt.Sprintf(format, args...))
}

// judge finds what is wrong with an object of its kind. Its error means that the
// spec does not deserialise.
type judge func(review, *verdict) error

// judges has a row for each kind that is judged, by group and kind.
var judges = map[kind]judge{
	{api.Group, api.ServerKind}:                   judgeServer,
	{api.Group, api.ServerAuthorizationKind}:      judgeServerAuthorization,
	{api.Group, api.AuthorizationPolicyKind}:      judgeAuthorizationPolicy,
	{api.Group, api.MeshTLSAuthenticationKind}:    judgeMeshTLSAuthentication,
	{api.Group, api.NetworkAuthenticationKind}:    judgeNetworkAuthentication,
	{api.Group, api.HTTPLocalRateLimitPolicyKind}: judgeRateLimit,
	{api.Group, api.HTTPRouteKind}:                judgeHTTPRoute,
	{api.GatewayGroup, api.HTTPRouteKind}:         judgeGatewayHTTPRoute,
	{api.GatewayGroup, api.GRPCRouteKind}:         judgeGRPCRoute,
}

// Handle answers a review. It never fails: an object that cannot be read is
// refused, unless it is of the Gateway API, which other controllers may
// read better.
func Handle(_ context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if request.Operation != admissionv1.Create && request.Operation != admissionv1.Update {
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
	judge := find(request.Kind.Group, request.Kind.Kind)
	if judge == nil {
		return refuse(fmt.Sprintf("%s.%s is not a kind that this webhook knows", request.Kind.Kind, request.Kind.Group)), nil
	}
	var object struct {
		Metadata struct {
			Namespace   string            `json:"namespace"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec *stdjson.RawMessage `json:"spec"`
	}
	if len(request.Object.Raw) == 0 {
		return refuse("the review holds no object"), nil
	}
	if err := json.Unmarshal(request.Object.Raw, &object); err != nil {
		return refuse("object: " + err.Error()), nil
	}
	if object.Spec == nil {
		return refuse("spec: is missing"), nil
	}
	namespace := request.Namespace
	if namespace == "" {
		namespace = object.Metadata.Namespace
	}
	var v verdict
	err := judge(review{namespace: namespace, annotations: object.Metadata.Annotations, spec: *object.Spec}, &v)
	switch {
	case err != nil && strings.EqualFold(request.Kind.Group, api.GatewayGroup):
		slog.Warn("admitted although it cannot be read", "kind", request.Kind.Kind, "namespace", namespace, "name", request.Name, "error", err)
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"spec: " + err.Error()}}, nil
	case err != nil:
		return refuse("spec: " + err.Error()), nil
	case len(v.problems) > 0:
		return refuse(v.problems.String()), nil
	}
	return &admissionv1.AdmissionResponse{Allowed: true, Warnings: v.warnings}, nil
}

func find(group, name string) judge {
	for k, judge := range judges {
		if k.is(group, name) {
			return judge
		}
	}
	return nil
}

func refuse(message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: message,
	}}
}
