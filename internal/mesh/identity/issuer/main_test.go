package issuer

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/mesh/kube/kubetest"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	secretPath = "/api/v1/namespaces/linkerd/secrets/" + SecretName
	rootsPath  = "/api/v1/namespaces/linkerd/configmaps/" + kube.TrustRootsName

	// patience ends a test that waits for what never comes; poll is how often it
	// looks.
	patience = 20 * time.Second
	poll     = 10 * time.Millisecond
)

// mkAPI is an API server that knows one token, "web".
func mkAPI(t *testing.T) *kubetest.Server {
	api := kubetest.New(t)
	api.Answer("/apis/authentication.k8s.io/v1/tokenreviews", func(object map[string]any) any {
		review := authenticationv1.TokenReview{TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}}
		if spec := object["spec"].(map[string]any); spec["token"] == "web" {
			review.Status.Authenticated = true
			review.Status.User.Username = "system:serviceaccount:emojivoto:web"
		}
		return review
	})
	return api
}

// role is one replica, which ends with the test or when told.
type role struct {
	address, admin string
	stop           func()
}

func startRole(t *testing.T, api *kubetest.Server) role {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, api.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := role{address: freeAddress(t), admin: freeAddress(t)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Main(ctx, []string{"--kubeconfig", kubeconfig, "--listen", r.address, "--admin", r.admin})
	}()
	stopped := false
	r.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(r.stop)
	eventually(t, "readiness", func() bool { return r.ready() })
	return r
}

func (r role) ready() bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + r.admin + "/ready")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what + " never came true")
		}
	}
}

func published(api *kubetest.Server) []byte {
	var roots corev1.ConfigMap
	api.Get(rootsPath, &roots)
	return []byte(roots.Data[kube.TrustRootsKey])
}

// certified has web certified by a role, and believed by whoever trusts anchors.
func certified(t *testing.T, address string, anchors []byte) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("web"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := identity.NewClient(identity.ClientConfig{Addr: address, ServerName: values.Default().Identity(serviceAccount, "linkerd"),
		TokenFile: token, LocalName: web, TrustAnchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	select {
	case <-client.Ready():
	case <-ctx.Done():
		t.Error("web was not certified")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Installing again, restarting, and starting several replicas at once must never
// change whom the mesh trusts.
func TestTheTrustRootIsMadeOnce(t *testing.T) {
	api := mkAPI(t)
	first := startRole(t, api)
	anchors := published(api)
	certified(t, first.address, anchors)
	second := startRole(t, api)
	certified(t, second.address, anchors)
	first.stop()
	second.stop()
	third := startRole(t, api)
	certified(t, third.address, anchors)
	if diff := cmp.Diff(string(anchors), string(published(api))); diff != "" {
		t.Errorf("the published anchors changed: -before +after\n%s", diff)
	}
}

func TestARotatedIssuerIsUsedAndItsAnchorPublishedBesideTheOldOne(t *testing.T) {
	api := mkAPI(t)
	r := startRole(t, api)
	old := published(api)
	rotated := mkMaterial(t)
	// Both anchors, as a rotation has it: leaves of the old issuer are still about.
	both := append(bytes.Clone(old), rotated.Anchors...)
	api.Put(secretPath, corev1.Secret{Data: map[string][]byte{keyCertificate: rotated.Certificate, keyKey: rotated.Key, keyAnchors: both}})
	eventually(t, "publication of both anchors", func() bool {
		return bytes.Contains(published(api), bytes.TrimSpace(old)) && bytes.Contains(published(api), bytes.TrimSpace(rotated.Anchors))
	})
	certified(t, r.address, both)
}

func TestOnlyAUsableSecretReplacesTheIssuer(t *testing.T) {
	api := mkAPI(t)
	core, err := kube.For(api.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(core.Client.CloseIdleConnections)
	kept := store{core: core, namespace: "linkerd", trustDomain: "cluster.local"}
	old, next := mkCA(t), mkMaterial(t)
	secret := func(m Material) *corev1.Secret {
		return &corev1.Secret{Data: map[string][]byte{keyCertificate: m.Certificate, keyKey: m.Key, keyAnchors: m.Anchors}}
	}
	for _, row := range []struct {
		name    string
		secret  *corev1.Secret
		rotated bool
	}{
		{"none", nil, false},
		{"without a key", secret(Material{Certificate: next.Certificate, Anchors: next.Anchors}), false},
		{"another", secret(next), true},
	} {
		service, _ := mkService(old)
		rotate(t.Context(), kept, service, row.secret)
		if got := service.Issuer() != old; got != row.rotated {
			t.Errorf("%s: rotated %v", row.name, got)
		}
	}
}

func TestASecretThatIsSpoiltOrGoneLeavesTheIssuerInUse(t *testing.T) {
	api := mkAPI(t)
	r := startRole(t, api)
	anchors := published(api)
	api.Put(secretPath, corev1.Secret{Data: map[string][]byte{keyCertificate: []byte("noise")}})
	api.Delete(secretPath)
	certified(t, r.address, anchors)
	if api.Get(secretPath, &corev1.Secret{}) {
		t.Error("a running role made a new trust root")
	}
}

func TestTheRoleIsNotReadyWithoutAnIssuer(t *testing.T) {
	api := mkAPI(t)
	api.Put(secretPath, corev1.Secret{Data: map[string][]byte{keyCertificate: []byte("noise")}})
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, api.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := role{address: freeAddress(t), admin: freeAddress(t)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Main(ctx, []string{"--kubeconfig", kubeconfig, "--listen", r.address, "--admin", r.admin})
	}()
	reads := func() (n int) {
		for _, request := range api.Requests() {
			if request == "GET "+secretPath {
				n++
			}
		}
		return n
	}
	eventually(t, "a second attempt", func() bool { return reads() > 1 })
	if r.ready() {
		t.Error("ready without an issuer")
	}
	good := mkMaterial(t)
	api.Put(secretPath, corev1.Secret{Data: map[string][]byte{keyCertificate: good.Certificate, keyKey: good.Key, keyAnchors: good.Anchors}})
	eventually(t, "readiness with an issuer", r.ready)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"--issuance-lifetime=0s"}, {"--clock-skew-allowance=-1s"}, {"--nonsense"}} {
		if err := Main(t.Context(), args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
