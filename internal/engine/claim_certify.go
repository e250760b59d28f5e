package engine

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/clients/certify"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// identityContainer is what answers certificate requests, and identityPort
	// where it does.
	identityContainer = "identity"
	identityPort      = 8080
	// identityAudience is for whom proxies' tokens are.
	identityAudience = "identity.l5d.io"
	// accountOfAll is the ServiceAccount that every namespace has.
	accountOfAll = "default"
)

// refusing are the codes by which the identity service says that it does not
// believe a request (J-03); with others it says that it cannot answer.
var refusing = []codes.Code{codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated}

// judgeCertify asks for a certificate with a token that the API server makes for
// the purpose.
func (s *scenarioRun) judgeCertify(ctx context.Context, c *scenarios.CertifyClaim) verdict {
	ctx, cancel := context.WithTimeout(ctx, commandBudget)
	defer cancel()
	account, audiences := cmp.Or(c.ServiceAccount, accountOfAll), []string{cmp.Or(c.Audience, identityAudience)}
	if c.Audience == scenarios.OwnAudience {
		audiences = nil
	}
	token, err := s.e.kube.typed.CoreV1().ServiceAccounts(s.namespace).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		return unsure("there is no token of ServiceAccount %s/%s: %v", s.namespace, account, err)
	}
	roots, err := s.e.trustAnchors(ctx)
	if err != nil {
		return unsure("%v", err)
	}
	service, err := s.e.identityPod()
	if err != nil {
		return unsure("%v", err)
	}
	own := account + "." + s.namespace + ".serviceaccount.identity.linkerd.cluster.local"
	source := certify.Source{
		Name: cmp.Or(s.text(c.Identity), own), Roots: []byte(roots), Token: []byte(token.Status.Token),
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			return s.e.forward.dial(ctx, nameOf(service), identityPort)
		},
	}
	_, _, err = source.Certificate(ctx)
	v := passed(string(scenarios.CertificateIssued))
	v.expected = string(c.Expect)
	switch code := grpcstatus.Code(err); {
	case err == nil:
	case slices.Contains(refusing, code):
		v.observed = fmt.Sprintf("%s with %s: %s", scenarios.CertificateRefused, code, grpcstatus.Convert(err).Message())
	default:
		return unsure("the identity service has not answered: %v", err)
	}
	if !strings.HasPrefix(v.observed, string(c.Expect)) {
		return failing(v, "expected a certificate for %s to be %s, observed %s", source.Name, c.Expect, v.observed)
	}
	return v
}

// identityPod is one that answers certificate requests.
func (e *run) identityPod() (*corev1.Pod, error) {
	for _, pod := range e.pods.list(meshNamespace, nil) {
		if ready(pod) && slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == identityContainer }) {
			return pod, nil
		}
	}
	return nil, fmt.Errorf("no ready pod in %s has a container %s: %w", meshNamespace, identityContainer, errNoPod)
}
