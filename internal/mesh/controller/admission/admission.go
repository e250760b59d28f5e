// Package admission is the judgement of the validating webhook: it looks at one
// Server or ServerAuthorization at a time and admits it or says, field by field,
// what is wrong (rules ).
//
// It refuses what cannot be meant. It never asks whether what an object refers to
// exists, and it admits an empty client, which the index then tells about.
package admission

import (
	"context"
	stdjson "encoding/json"
	"fmt"
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

// kinds has a row for each kind that is judged, by its name in lower case.
var kinds = map[string]func(spec []byte) (index.Problems, error){
	"server":              judgeServer,
	"serverauthorization": judgeAuthorization,
}

// Handle answers a review. It never fails: an object that cannot be read is
// refused.
func Handle(_ context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if request.Operation != admissionv1.Create && request.Operation != admissionv1.Update {
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
	judge := kinds[strings.ToLower(request.Kind.Kind)]
	if judge == nil || !strings.EqualFold(request.Kind.Group, api.Group) {
		return refuse(fmt.Sprintf("%s.%s is not a kind that this webhook knows", request.Kind.Kind, request.Kind.Group)), nil
	}
	var object struct {
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
	problems, err := judge(*object.Spec)
	switch {
	case err != nil:
		return refuse("spec: " + err.Error()), nil
	case len(problems) > 0:
		return refuse(problems.String()), nil
	}
	return &admissionv1.AdmissionResponse{Allowed: true}, nil
}

func refuse(message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: message,
	}}
}

func judgeServer(text []byte) (index.Problems, error) {
	var spec api.ServerSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	problems := index.NewServerSpec(&api.Server{Spec: spec}).Problems
	// A field that is there and empty is no spelling of anything, while one that
	// is absent has its default.
	var given struct {
		ProxyProtocol *string `json:"proxyProtocol"`
		AccessPolicy  *string `json:"accessPolicy"`
	}
	if err := json.Unmarshal(text, &given); err != nil {
		return nil, err
	}
	if given.ProxyProtocol != nil && *given.ProxyProtocol == "" {
		problems = append(problems, index.Problem{Field: "spec.proxyProtocol", Text: "is empty"})
	}
	if given.AccessPolicy != nil && *given.AccessPolicy == "" {
		problems = append(problems, index.Problem{Field: "spec.accessPolicy", Text: "is empty"})
	}
	return problems, nil
}

func judgeAuthorization(text []byte) (index.Problems, error) {
	var spec api.ServerAuthorizationSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	var problems index.Problems
	add := func(field, text string) { problems = append(problems, index.Problem{Field: field, Text: text}) }
	if (spec.Server.Name == "") == (spec.Server.Selector == nil) {
		add("spec.server", "want exactly one of name and selector")
	}
	index.ContradictoryClient(spec.Client, &problems)
	index.NewNetworks("spec.client.networks", spec.Client.Networks, &problems)
	index.PointlessExceptions("spec.client.networks", spec.Client.Networks, &problems)
	if tls := spec.Client.MeshTLS; tls != nil {
		for i, account := range tls.ServiceAccounts {
			if account.Name == "" {
				add(fmt.Sprintf("spec.client.meshTLS.serviceAccounts[%d].name", i), "is missing")
			}
		}
	}
	return problems, nil
}
