package injector

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

var update = flag.Bool("update", false, "write the golden files anew")

func mkSettings(t *testing.T, edit func(*values.Values)) Settings {
	t.Helper()
	v := values.Default()
	if edit != nil {
		edit(&v)
	}
	s, err := NewSettings(v, "-----BEGIN CERTIFICATE-----\nanchors\n-----END CERTIFICATE-----\n")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mkPod is emojivoto's voting pod as its ReplicaSet creates it.
func mkPod(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "voting-5f5b555dff-", Labels: map[string]string{"app": "voting-svc"}, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "voting-5f5b555dff", UID: "1", Controller: ptr(true)}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "voting",
			Containers: []corev1.Container{{Name: "voting-svc", Image: "voting:v11", Ports: []corev1.ContainerPort{
				{Name: "grpc", ContainerPort: 8080}, {Name: "prom", ContainerPort: 8801}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}}},
		},
	}
}

func mkNamespace(annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "emojivoto", Annotations: annotations}}
}

var enabled = map[string]string{InjectAnnotation: "enabled"}

func with(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// Each golden file is a whole pod (K-01 to K-06, D-13, D-19, P-15).
func TestInjectedPodsAreExactlyThese(t *testing.T) {
	rich := func() *corev1.Pod {
		pod := mkPod(with(InjectAnnotation, "ingress",
			api.DefaultPolicyAnnotation, "cluster-authenticated",
			api.OpaquePortsAnnotation, "prom,3000-3010", api.RequireIdentityAnnotation, "grpc",
			SkipInboundAnnotation, "9000", SkipOutboundAnnotation, "25,587",
			LogLevelAnnotation, "debug", CPURequestAnnotation, "50m", CPULimitAnnotation, "1",
			MemoryRequestAnnotation, "32Mi", MemoryLimitAnnotation, "64Mi"))
		pod.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "first"},
			{Name: "sidecar", Image: "sidecar", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{ContainerPort: 7000}}}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "own"}}
		pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(9001)}}}
		return pod
	}
	for name, row := range map[string]struct {
		pod      *corev1.Pod
		settings Settings
	}{
		"plain":             {mkPod(enabled), mkSettings(t, nil)},
		"every-annotation":  {rich(), mkSettings(t, nil)},
		"mark":              {mkPod(enabled), mkSettings(t, func(v *values.Values) { v.ProxyExemption = values.ExemptMark })},
		"native-sidecar":    {rich(), mkSettings(t, func(v *values.Values) { v.NativeSidecar = true })},
		"other-trustdomain": {mkPod(enabled), mkSettings(t, func(v *values.Values) { v.IdentityTrustDomain, v.Dialect = "example.org", "linkerd" })},
	} {
		t.Run(name, func(t *testing.T) {
			before := row.pod.DeepCopy()
			result := Inject(row.pod, mkNamespace(nil), row.settings)
			if diff := cmp.Diff(before, row.pod); diff != "" {
				t.Errorf("the argument was changed: -before +after\n%s", diff)
			}
			if diff := cmp.Diff([]Note(nil), result.Notes); diff != "" {
				t.Errorf("notes: %s", diff)
			}
			golden(t, name, result.Pod)
			if again := Inject(result.Pod, mkNamespace(nil), row.settings); again.Pod != nil {
				t.Error("an injected pod is injected again")
			}
		})
	}
}

func golden(t *testing.T, name string, pod *corev1.Pod) {
	t.Helper()
	got, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".yaml")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got (go test ./internal/mesh/injector -update writes what it gets)\n%s", diff)
	}
}

// What is added runs from the image that the pod, its namespace or the cluster
// names, in this order.
func TestTheProxysImageIsTheOneAskedFor(t *testing.T) {
	const digest = "sha256:0123456789012345678901234567890101234567890123456789012345678901"
	own := func(v *values.Values) {
		v.ProxyImage, v.ProxyVersion, v.ImagePullPolicy = "registry.example/proxy:v7", "v7", corev1.PullAlways
	}
	for name, row := range map[string]struct {
		pod, namespace map[string]string
		edit           func(*values.Values)
		image, version string
		policy         corev1.PullPolicy
		note           string
	}{
		"nobody says anything":        {nil, nil, nil, "meshproof/agent:dev", "dev", corev1.PullIfNotPresent, ""},
		"the cluster's":               {nil, nil, own, "registry.example/proxy:v7", "v7", corev1.PullAlways, ""},
		"the pod's":                   {with(ImageAnnotation, "a/b:c"), nil, own, "a/b:c", "c", corev1.PullAlways, ""},
		"the namespace's":             {nil, with(ImageAnnotation, "a/b:c"), own, "a/b:c", "c", corev1.PullAlways, ""},
		"the pod's goes first":        {with(ImageAnnotation, "a/b:c"), with(ImageAnnotation, "a/b:d"), own, "a/b:c", "c", corev1.PullAlways, ""},
		"without a tag":               {with(ImageAnnotation, "a:5000/b"), nil, own, "a:5000/b:v7", "v7", corev1.PullAlways, ""},
		"by digest":                   {with(ImageAnnotation, "a/b@"+digest), nil, own, "a/b@" + digest, digest, corev1.PullAlways, ""},
		"another version":             {with(ImageVersionAnnotation, "v8"), nil, own, "registry.example/proxy:v8", "v8", corev1.PullAlways, ""},
		"image and version":           {with(ImageAnnotation, "a/b", ImageVersionAnnotation, "v8"), nil, own, "a/b:v8", "v8", corev1.PullAlways, ""},
		"a policy":                    {with(PullPolicyAnnotation, "Never"), nil, own, "registry.example/proxy:v7", "v7", corev1.PullNever, ""},
		"no image":                    {with(ImageAnnotation, "a b"), nil, own, "registry.example/proxy:v7", "v7", corev1.PullAlways, ReasonInvalidConfig},
		"no version":                  {with(ImageVersionAnnotation, "a b"), nil, own, "registry.example/proxy:v7", "v7", corev1.PullAlways, ReasonInvalidConfig},
		"no policy":                   {with(PullPolicyAnnotation, "Often"), nil, own, "registry.example/proxy:v7", "v7", corev1.PullAlways, ReasonInvalidConfig},
		"a version beside the digest": {with(ImageAnnotation, "a/b@"+digest, ImageVersionAnnotation, "v8"), nil, own, "a/b@" + digest, digest, corev1.PullAlways, ReasonInvalidConfig},
	} {
		t.Run(name, func(t *testing.T) {
			pod := mkPod(row.pod)
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[InjectAnnotation] = "enabled"
			result := Inject(pod, mkNamespace(row.namespace), mkSettings(t, row.edit))
			for _, container := range []corev1.Container{result.Pod.Spec.InitContainers[0], result.Pod.Spec.Containers[0]} {
				if container.Image != row.image || container.ImagePullPolicy != row.policy {
					t.Errorf("%s: %s, pulled %s, want %s, %s", container.Name, container.Image, container.ImagePullPolicy, row.image, row.policy)
				}
			}
			if got := result.Pod.Annotations[VersionAnnotation]; got != row.version {
				t.Errorf("version %q, want %q", got, row.version)
			}
			note := ""
			if len(result.Notes) > 0 {
				note = result.Notes[0].Reason
			}
			if note != row.note || len(result.Notes) > 1 {
				t.Errorf("notes %v, want %q", result.Notes, row.note)
			}
		})
	}
}

func TestTheProxyIsANativeSidecarWhereThatIsAskedForAndPossible(t *testing.T) {
	for name, row := range map[string]struct {
		pod, namespace map[string]string
		cluster, old   bool
		native         bool
		note           string
	}{
		"nobody asks":                 {nil, nil, false, false, false, ""},
		"the cluster's setting":       {nil, nil, true, false, true, ""},
		"the pod asks":                {with(NativeSidecarAnnotation, "true"), nil, false, false, true, ""},
		"by the older name":           {with(NativeSidecarAnnotationAlpha, "true"), nil, false, false, true, ""},
		"the namespace asks":          {nil, with(NativeSidecarAnnotation, "true"), false, false, true, ""},
		"the pod refuses":             {with(NativeSidecarAnnotation, "false"), nil, true, false, false, ""},
		"a misspelt value":            {with(NativeSidecarAnnotation, "yes"), nil, true, false, true, ReasonInvalidConfig},
		"the setting, on an old one":  {nil, nil, true, true, false, ""},
		"the pod asks, on an old one": {with(NativeSidecarAnnotation, "true"), nil, false, true, false, ReasonInvalidConfig},
	} {
		t.Run(name, func(t *testing.T) {
			pod := mkPod(row.pod)
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[InjectAnnotation] = "enabled"
			settings := mkSettings(t, func(v *values.Values) { v.NativeSidecar = row.cluster })
			settings.NoNativeSidecars = row.old
			result := Inject(pod, mkNamespace(row.namespace), settings)
			var stay, plain []string
			for _, container := range result.Pod.Spec.InitContainers {
				if container.RestartPolicy != nil {
					stay = append(stay, container.Name)
				}
			}
			for _, container := range result.Pod.Spec.Containers {
				plain = append(plain, container.Name)
			}
			wantStay, wantPlain := []string(nil), []string{"linkerd-proxy", "voting-svc"}
			if row.native {
				wantStay, wantPlain = []string{"linkerd-proxy"}, []string{"voting-svc"}
			}
			if diff := cmp.Diff([][]string{wantStay, wantPlain}, [][]string{stay, plain}); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			note := ""
			if len(result.Notes) > 0 {
				note = result.Notes[0].Reason
			}
			if note != row.note {
				t.Errorf("notes %v, want %q", result.Notes, row.note)
			}
		})
	}
}

func TestNativeSidecarsCameWithKubernetes129(t *testing.T) {
	for text, want := range map[string]bool{`{"gitVersion":"v1.28.15"}`: false, `{"gitVersion":"v1.29.0"}`: true, `{"gitVersion":"v1.36.3+k3s1"}`: true, `{"gitVersion":"v2.0.0"}`: true} {
		if got, err := sidecarsOf([]byte(text)); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "{}", `{"gitVersion":"new"}`} {
		if got, err := sidecarsOf([]byte(text)); got || err == nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestWhoIsInjected(t *testing.T) {
	const skipped, none = ReasonSkipped, ""
	for name, row := range map[string]struct {
		pod, namespace map[string]string
		edit           func(*corev1.Pod, *corev1.Namespace)
		injected       bool
		note           string
	}{
		"nobody says anything":          {nil, nil, nil, false, none},
		"the pod asks":                  {enabled, nil, nil, true, none},
		"the namespace asks":            {nil, enabled, nil, true, none},
		"the pod refuses":               {with(InjectAnnotation, "disabled"), enabled, nil, false, none},
		"the pod asks, namespace not":   {enabled, with(InjectAnnotation, "disabled"), nil, true, none},
		"ingress mode":                  {with(InjectAnnotation, "ingress"), nil, nil, true, none},
		"a misspelt value":              {with(InjectAnnotation, "true"), enabled, nil, false, skipped},
		"on the host's network":         {enabled, nil, func(p *corev1.Pod, _ *corev1.Namespace) { p.Spec.HostNetwork = true }, false, skipped},
		"unasked on the host's network": {nil, nil, func(p *corev1.Pod, _ *corev1.Namespace) { p.Spec.HostNetwork = true }, false, none},
		"in the control plane":          {enabled, nil, func(_ *corev1.Pod, n *corev1.Namespace) { n.Name = "linkerd" }, false, none},
		"in kube-system":                {enabled, nil, func(_ *corev1.Pod, n *corev1.Namespace) { n.Name = "kube-system" }, false, none},
		"with a proxy": {enabled, nil, func(p *corev1.Pod, _ *corev1.Namespace) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "linkerd-proxy"})
		}, false, none},
	} {
		t.Run(name, func(t *testing.T) {
			pod, namespace := mkPod(row.pod), mkNamespace(row.namespace)
			if row.edit != nil {
				row.edit(pod, namespace)
			}
			result := Inject(pod, namespace, mkSettings(t, nil))
			if got := result.Pod != nil; got != row.injected {
				t.Errorf("injected %v, want %v (%s)", got, row.injected, result.Skipped)
			}
			if (result.Skipped == "") != row.injected {
				t.Errorf("skipped because %q", result.Skipped)
			}
			var note string
			for _, n := range result.Notes {
				note += n.Reason
			}
			if note != row.note {
				t.Errorf("notes %q, want %q", note, row.note)
			}
		})
	}
}

// Every one of the six policies at every level, over every cluster default:
// the more specific level wins (DOC-05).
// D-07 to D-09.
func TestTheMostSpecificDefaultPolicyWins(t *testing.T) {
	for _, cluster := range api.PolicyNames() {
		settings := mkSettings(t, func(v *values.Values) { v.DefaultInboundPolicy = cluster })
		for _, pod := range append(api.PolicyNames(), "") {
			for _, namespace := range append(api.PolicyNames(), "") {
				want := cluster
				podSays, namespaceSays := with(InjectAnnotation, "enabled"), map[string]string{}
				if namespace != "" {
					namespaceSays[api.DefaultPolicyAnnotation], want = string(namespace), namespace
				}
				if pod != "" {
					podSays[api.DefaultPolicyAnnotation], want = string(pod), pod
				}
				got := Inject(mkPod(podSays), mkNamespace(namespaceSays), settings)
				if policy := proxyEnv(t, got.Pod, api.ProxyDefaultPolicyVariable); policy != string(want) || len(got.Notes) > 0 {
					t.Errorf("cluster %s, namespace %q, pod %q: got %s, notes %v", cluster, namespace, pod, policy, got.Notes)
				}
			}
		}
	}
}

// D-12.
func TestAnInvalidDefaultPolicyFallsBackToTheClustersAndIsTold(t *testing.T) {
	settings := mkSettings(t, func(v *values.Values) { v.DefaultInboundPolicy = api.Deny })
	for from, row := range map[string]struct{ pod, namespace map[string]string }{
		"pod":       {with(InjectAnnotation, "enabled", api.DefaultPolicyAnnotation, "allow"), with(api.DefaultPolicyAnnotation, "audit")},
		"namespace": {enabled, with(api.DefaultPolicyAnnotation, "allow")},
	} {
		got := Inject(mkPod(row.pod), mkNamespace(row.namespace), settings)
		if policy := proxyEnv(t, got.Pod, api.ProxyDefaultPolicyVariable); policy != "deny" {
			t.Errorf("%s: got %s", from, policy)
		}
		want := []Note{{ReasonInvalidPolicy, fmt.Sprintf(`annotation config.linkerd.io/default-inbound-policy of the %s is "allow", which is no policy; the cluster's default deny holds`, from)}}
		if diff := cmp.Diff(want, got.Notes); diff != "" {
			t.Errorf("%s: -want +got\n%s", from, diff)
		}
	}
}

// D-08 in Linkerd's dialect, where the controller follows the pod's annotation.
// In the documented one an annotation that looks effective and is not would only
// mislead.
// D-08.
func TestTheNamespacesDefaultIsCopiedOnlyWhereAnnotationsAreFollowed(t *testing.T) {
	for dialect, want := range map[string]string{api.DialectLinkerd: "deny", api.DialectDocumented: ""} {
		settings := mkSettings(t, func(v *values.Values) { v.Dialect = dialect })
		got := Inject(mkPod(enabled), mkNamespace(with(api.DefaultPolicyAnnotation, "deny")), settings)
		if annotation := got.Pod.Annotations[api.DefaultPolicyAnnotation]; annotation != want {
			t.Errorf("%s: annotation %q, want %q", dialect, annotation, want)
		}
	}
}

// D-15, D-16, K-06: names are resolved for the proxy in both dialects; default ports
// count where the pod exposes them.
func TestPortListsAreResolved(t *testing.T) {
	type ports struct{ annotation, env string }
	for name, row := range map[string]struct {
		pod, namespace map[string]string
		edit           func(*corev1.Pod)
		want           ports
		notes          int
	}{
		"nothing opaque":              {nil, nil, nil, ports{"", ""}, 0},
		"a default one is exposed":    {nil, nil, func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 3306 }, ports{"3306", "3306"}, 0},
		"the pod's own list":          {with(api.OpaquePortsAnnotation, "8801"), nil, nil, ports{"8801", "8801"}, 0},
		"an empty list of its own":    {with(api.OpaquePortsAnnotation, ""), with(api.OpaquePortsAnnotation, "1"), nil, ports{"", ""}, 0},
		"the namespace's is copied":   {nil, with(api.OpaquePortsAnnotation, "9,8801"), nil, ports{"9,8801", "9,8801"}, 0},
		"names and ranges":            {with(api.OpaquePortsAnnotation, "prom, 100-200 ,grpc"), nil, nil, ports{"prom, 100-200 ,grpc", "100-200,8080,8801"}, 0},
		"a UDP name is no port":       {with(api.OpaquePortsAnnotation, "dns,1"), nil, nil, ports{"dns,1", "1"}, 1},
		"what cannot be used is told": {with(api.OpaquePortsAnnotation, "70000,9-1,x,1"), nil, nil, ports{"70000,9-1,x,1", "1"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			pod := mkPod(row.pod)
			if row.edit != nil {
				row.edit(pod)
			}
			if row.namespace == nil {
				row.namespace = map[string]string{}
			}
			row.namespace[InjectAnnotation] = "enabled"
			result := Inject(pod, mkNamespace(row.namespace), mkSettings(t, nil))
			got := ports{result.Pod.Annotations[api.OpaquePortsAnnotation], proxyEnv(t, result.Pod, "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION")}
			if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(ports{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if len(result.Notes) != row.notes {
				t.Errorf("%d notes, want %d: %v", len(result.Notes), row.notes, result.Notes)
			}
		})
	}
}

// A typing error must not keep a pod from starting: proxy-init would refuse it.
func TestUnusableSkipPortsAndAmountsAreLeftOut(t *testing.T) {
	result := Inject(mkPod(with(InjectAnnotation, "enabled", SkipInboundAnnotation, "22,ssh", CPURequestAnnotation, "much", MemoryLimitAnnotation, "-1")),
		mkNamespace(nil), mkSettings(t, nil))
	args := result.Pod.Spec.InitContainers[0].Args
	if diff := cmp.Diff("4190,4191,22", args[len(args)-1]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff(corev1.ResourceRequirements{}, result.Pod.Spec.Containers[0].Resources); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(result.Notes) != 3 {
		t.Errorf("notes: %v", result.Notes)
	}
}

// Interception knows the proxy by its uid, so nobody else may have it.
func TestAContainerThatPassesForTheProxyIsTold(t *testing.T) {
	context := &corev1.SecurityContext{RunAsUser: ptr(int64(ProxyUID))}
	for name, row := range map[string]struct {
		edit      func(*corev1.Pod)
		exemption values.Exemption
		told      bool
	}{
		"by the container": {func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = context }, values.ExemptUID, true},
		"by the pod":       {func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: context.RunAsUser} }, values.ExemptUID, true},
		"by the pod, not the container": {func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: context.RunAsUser}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: ptr(int64(1))}
		}, values.ExemptUID, false},
		"where the mark decides": {func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = context }, values.ExemptMark, false},
		"nobody":                 {func(*corev1.Pod) {}, values.ExemptUID, false},
	} {
		pod := mkPod(enabled)
		row.edit(pod)
		result := Inject(pod, mkNamespace(nil), mkSettings(t, func(v *values.Values) { v.ProxyExemption = row.exemption }))
		if result.Pod == nil || (len(result.Notes) == 1) != row.told {
			t.Errorf("%s: notes %v, want told %v", name, result.Notes, row.told)
		}
	}
}

func proxyEnv(t *testing.T, pod *corev1.Pod, name string) string {
	t.Helper()
	for _, variable := range pod.Spec.Containers[0].Env {
		if variable.Name == name {
			return variable.Value
		}
	}
	t.Errorf("the proxy has no %s", name)
	return ""
}
