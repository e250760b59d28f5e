package issuer

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
)

// apiServer answers token reviews from a table of token and first audience.
func apiServer(t *testing.T, answers map[[2]string]authenticationv1.TokenReviewStatus) TokenReviewer {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := read(t, r.Body)
		key := [2]string{review.Spec.Token}
		if len(review.Spec.Audiences) > 0 {
			key[1] = review.Spec.Audiences[0]
		}
		status, ok := answers[key]
		if !ok {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(authenticationv1.TokenReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}, Status: status})
	}))
	t.Cleanup(server.Close)
	client, err := kube.For(&rest.Config{Host: server.URL}, authenticationv1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Client.CloseIdleConnections)
	return TokenReviewer{client}
}

// read decodes a request: four bytes "k8s\0", an envelope, the object.
func read(t *testing.T, body io.Reader) authenticationv1.TokenReview {
	t.Helper()
	var review authenticationv1.TokenReview
	text, err := io.ReadAll(body)
	if err != nil || len(text) < 4 {
		t.Errorf("read a token review of %d bytes: %v", len(text), err)
		return review
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(text[4:]); err != nil {
		t.Errorf("decode a request: %v", err)
	}
	if err := review.Unmarshal(envelope.Raw); err != nil {
		t.Errorf("decode a token review: %v", err)
	}
	return review
}

func TestReviewNamesTheAccountOrTheBlame(t *testing.T) {
	known := func(user string) authenticationv1.TokenReviewStatus {
		return authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: user}}
	}
	unknown := authenticationv1.TokenReviewStatus{}
	bad := authenticationv1.TokenReviewStatus{Error: "invalid bearer token"}
	reviewer := apiServer(t, map[[2]string]authenticationv1.TokenReviewStatus{
		{"ours", TokenAudience}:    known("system:serviceaccount:emojivoto:web"),
		{"old", TokenAudience}:     {Error: "token audiences do not fit"},
		{"old", ""}:                known("system:serviceaccount:emojivoto:web"),
		{"unknown", TokenAudience}: unknown,
		{"unknown", ""}:            unknown,
		{"noise", TokenAudience}:   bad,
		{"noise", ""}:              bad,
		{"person", TokenAudience}:  known("alice"),
		{"node", TokenAudience}:    known("system:node:meshproof"),
		{"short", TokenAudience}:   known("system:serviceaccount:web"),
		{"odd", TokenAudience}:     known("system:serviceaccount:emoji.voto:web"),
	})
	web := Account{"emojivoto", "web"}
	for token, row := range map[string]struct {
		account Account
		blame   error
	}{
		"ours": {web, nil}, "old": {web, nil},
		"unknown": {Account{}, ErrNotAuthenticated},
		"noise":   {Account{}, ErrMalformed}, "person": {Account{}, ErrMalformed}, "node": {Account{}, ErrMalformed},
		"short": {Account{}, ErrMalformed}, "odd": {Account{}, ErrMalformed},
	} {
		got, err := reviewer.Review(t.Context(), token)
		if diff := cmp.Diff(row.account, got); diff != "" || !errors.Is(err, row.blame) {
			t.Errorf("%s: error %v, want %v; -want +got\n%s", token, err, row.blame, diff)
		}
	}
	_, err := reviewer.Review(t.Context(), "outage")
	if err == nil || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotAuthenticated) {
		t.Errorf("an API server that fails is blamed on the token: %v", err)
	}
}
