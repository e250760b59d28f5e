package issuer

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
)

// TokenAudience is that of the projected tokens of meshed pods.
const TokenAudience = "identity.l5d.io"

// accountPrefix precedes "namespace:name" in the user name of a ServiceAccount.
const accountPrefix = "system:serviceaccount:"

// TokenReviewer asks the API server.
type TokenReviewer struct {
	// Client is one of authentication.k8s.io/v1.
	Client rest.Interface
}

// Review implements Reviewer. A token that is not for our audience gets a second
// chance with the API server's own: tokens of older pods have that one.
func (r TokenReviewer) Review(ctx context.Context, token string) (Account, error) {
	review, err := r.review(ctx, token, TokenAudience)
	if err != nil {
		return Account{}, err
	}
	if !review.Authenticated {
		if review, err = r.review(ctx, token); err != nil {
			return Account{}, err
		}
	}
	return account(review)
}

func (r TokenReviewer) review(ctx context.Context, token string, audiences ...string) (authenticationv1.TokenReviewStatus, error) {
	var answer authenticationv1.TokenReview
	err := r.Client.Post().Resource("tokenreviews").
		VersionedParams(&metav1.CreateOptions{}, metav1.ParameterCodec).
		Body(&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}).
		Do(ctx).Into(&answer)
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, fmt.Errorf("review a token: %w", err)
	}
	return answer.Status, nil
}

// account reads the outcome of a review.
func account(review authenticationv1.TokenReviewStatus) (Account, error) {
	if review.Error != "" {
		return Account{}, fmt.Errorf("%w: %s", ErrMalformed, review.Error)
	}
	if !review.Authenticated {
		return Account{}, ErrNotAuthenticated
	}
	rest, ok := strings.CutPrefix(review.User.Username, accountPrefix)
	namespace, name, two := strings.Cut(rest, ":")
	if !ok || !two || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return Account{}, fmt.Errorf("%w: user %q is not a service account", ErrMalformed, review.User.Username)
	}
	return Account{Namespace: namespace, Name: name}, nil
}
