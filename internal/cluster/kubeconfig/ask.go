package kubeconfig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"

	"github.com/meshproof/meshproof/internal/cluster"
)

// oldestMinor is the oldest Kubernetes 1.x that a run works on: the first one
// in which every API server acts on the PodSecurity labels of namespaces.
const oldestMinor = 25

// checkVersion asks the API server which Kubernetes it is, and so whether it is
// there and knows this user.
func checkVersion(ctx context.Context, server string, client discovery.DiscoveryInterface) error {
	text, err := client.RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return explain(ctx, server, err)
	}
	var found version.Info
	if err := json.Unmarshal(text, &found); err != nil || found.Minor == "" {
		return &cluster.SetupError{Cause: fmt.Sprintf("%s does not answer as an API server of Kubernetes does", server), Remedy: "check the server's address in the kubeconfig"}
	}
	major, majorErr := strconv.Atoi(found.Major)
	minor, minorErr := strconv.Atoi(strings.TrimRight(found.Minor, "+")) // some vendors add it
	if majorErr == nil && minorErr == nil && (major < 1 || major == 1 && minor < oldestMinor) {
		return &cluster.SetupError{Cause: fmt.Sprintf("%s runs Kubernetes %s, which is too old", server, found.GitVersion), Remedy: fmt.Sprintf("use Kubernetes 1.%d or later", oldestMinor)}
	}
	return nil
}

// explain says in one line why an API server did not answer.
func explain(ctx context.Context, server string, err error) error {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		network   *net.OpError
		lookup    *net.DNSError
		status    apierrors.APIStatus
		request   *url.Error
	)
	say := func(cause, remedy string) error {
		return &cluster.SetupError{Cause: server + cause, Remedy: remedy}
	}
	switch {
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("ask %s: %w", server, context.Cause(ctx))
	case errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &invalid):
		return say(" shows a certificate that the kubeconfig does not trust: "+innermost(err), "check server and certificate-authority in the kubeconfig")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return say(" does not speak TLS", "check the server's address in the kubeconfig")
	case apierrors.IsUnauthorized(err):
		return say(" does not accept the kubeconfig's credentials: they are wrong or have expired", "log in again, or choose another --context")
	case apierrors.IsForbidden(err):
		return say(" does not let this user in: "+oneLine(err), "choose another --context")
	case errors.As(err, &lookup):
		return say(" cannot be reached: "+innermost(lookup), "check the server's name in the kubeconfig")
	case errors.As(err, &network):
		return say(" cannot be reached: "+innermost(network), "is the cluster up, and is the server's address in the kubeconfig right?")
	case errors.Is(err, context.DeadlineExceeded):
		return say(fmt.Sprintf(" does not answer within %s", askBudget), "is the cluster up, and is the server's address in the kubeconfig right?")
	case errors.As(err, &status):
		return say(" does not answer as an API server of Kubernetes does: "+oneLine(err), "check the server's address in the kubeconfig")
	case errors.As(err, &request):
		return say(" cannot be asked: "+oneLine(request.Err), "")
	}
	return say(" cannot be asked: "+oneLine(err), "")
}

// innermost is the end of a chain of errors: the others repeat the address.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return oneLine(err)
		}
		err = inner
	}
}
