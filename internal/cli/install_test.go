package cli

import (
	"strings"
	"testing"
)

func TestManifestsNameTheImagesAskedFor(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"install", "--registry", "registry.example/mirror"}, []string{"image: registry.example/mirror/meshproof/agent:dev\n", "proxyImage: registry.example/mirror/meshproof/agent:dev\n"}},
		{[]string{"install", "--proxy-image", "mine/proxy:v2", "--image-pull-policy", "Always", "--native-sidecar"},
			[]string{"image: meshproof/agent:dev\n", "proxyImage: mine/proxy:v2\n", "imagePullPolicy: Always\n", "nativeSidecar: true\n"}},
		{[]string{"install", "--controller-image", "mine/controller:v2"}, []string{"image: mine/controller:v2\n", "proxyImage: meshproof/agent:dev\n"}},
		{[]string{"viz", "install"}, []string{"image: meshproof/agent:dev\n"}},
		{[]string{"viz", "install", "--registry", "localhost:5000"}, []string{"image: localhost:5000/meshproof/agent:dev\n"}},
	} {
		code, out, errOut := runLine(t, c.args...)
		if code != ExitOK || errOut != "" {
			t.Errorf("%q: code %d, stderr %q", c.args, code, errOut)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %q in\n%s", c.args, want, out)
			}
		}
	}
}

// The Gateway API's CRDs are installed unless they are there, and with them all
// routes of a cluster would be deleted.
func TestTheGatewayAPIIsDeletedOnDemandAlone(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"install"}, true}, {[]string{"install", "--skip-gateway-api"}, false},
		{[]string{"uninstall"}, false}, {[]string{"uninstall", "--gateway-api"}, true},
	} {
		_, out, _ := runLine(t, c.args...)
		for name, want := range map[string]bool{"httproutes.gateway.networking.k8s.io": c.want, "grpcroutes.gateway.networking.k8s.io": c.want, "httproutes.policy.linkerd.io": true} {
			if got := strings.Contains(out, "  name: "+name+"\n"); got != want {
				t.Errorf("%q: prints %s: %v", c.args, name, got)
			}
		}
	}
}

func TestWrongInstallOptionsAreSaidInOneLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"install", "--proxy-image", "A B"}, `proxy image "A B" is no image's name`},
		{[]string{"install", "--image-pull-policy", "often"}, `image pull policy "often" is none of Always, IfNotPresent, Never`},
		{[]string{"install", "--native-sidecar=perhaps"}, "native-sidecar"},
	} {
		code, out, errOut := runLine(t, c.args...)
		if code != ExitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", c.args, code, out, errOut)
		}
	}
}
