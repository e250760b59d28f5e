package manifests_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/clients/agent"
	"github.com/meshproof/meshproof/workloads/emojivoto"
	"github.com/meshproof/meshproof/workloads/images"
	"github.com/meshproof/meshproof/workloads/manifests"
	"github.com/meshproof/meshproof/workloads/probed"
)

// names lists objects as kind/name.
func names(objects []*unstructured.Unstructured) []string {
	var list []string
	for _, object := range objects {
		list = append(list, object.GetKind()+"/"+object.GetName())
	}
	return list
}

// pod returns the pod spec of the only Pod or Deployment, and its metadata.
func pod(t *testing.T, objects []*unstructured.Unstructured) corev1.PodTemplateSpec {
	t.Helper()
	var template corev1.PodTemplateSpec
	for _, object := range objects {
		content := object.Object
		switch object.GetKind() {
		case "Deployment":
			content, _, _ = unstructured.NestedMap(object.Object, "spec", "template")
		case "Pod":
		default:
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(without(content, "apiVersion", "kind"), &template, true); err != nil {
			t.Fatal(err)
		}
	}
	return template
}

func without(content map[string]any, keys ...string) map[string]any {
	content = maps.Clone(content)
	for _, key := range keys {
		delete(content, key)
	}
	return content
}

func TestTheApplicationIsTheOneThatPublishedPoliciesExpect(t *testing.T) {
	objects, err := manifests.Parse(emojivoto.Manifest())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Namespace/emojivoto", "ServiceAccount/emoji", "ServiceAccount/voting", "ServiceAccount/web",
		"Service/emoji-svc", "Service/voting-svc", "Service/web-svc",
		"Deployment/emoji", "Deployment/voting", "Deployment/web", "Deployment/vote-bot"}
	if diff := cmp.Diff(want, names(objects)); diff != "" {
		t.Error(diff)
	}
	type shape struct {
		Labels         map[string]string
		ServiceAccount string
		Image          string
		Command        []string
		Ports          map[string]int32
	}
	got := map[string]shape{}
	for _, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		template := pod(t, []*unstructured.Unstructured{object})
		container := template.Spec.Containers[0]
		ports := map[string]int32{}
		for _, port := range container.Ports {
			ports[port.Name] = port.ContainerPort
		}
		got[object.GetName()] = shape{template.Labels, template.Spec.ServiceAccountName, container.Image, container.Command, ports}
		if container.ReadinessProbe != nil || container.LivenessProbe != nil || container.StartupProbe != nil {
			t.Errorf("%s has a probe (rule E-04)", object.GetName())
		}
		if _, err := images.Find(container.Image); err != nil {
			t.Error(err)
		}
		for _, env := range container.Env {
			if host, ok := strings.CutSuffix(env.Name, "_HOST"); ok && !slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool {
				return o.GetKind() == "Service" && strings.HasPrefix(env.Value, o.GetName()+".emojivoto:")
			}) {
				t.Errorf("%s of %s is %s, which is no Service", host, object.GetName(), env.Value)
			}
		}
	}
	labels := func(app string) map[string]string { return map[string]string{"app": app, "version": "v11"} }
	grpc := map[string]int32{"grpc": 8080, "prom": 8801}
	wanted := map[string]shape{
		"emoji":    {labels("emoji-svc"), "emoji", "docker.l5d.io/buoyantio/emojivoto-emoji-svc:v11", nil, grpc},
		"voting":   {labels("voting-svc"), "voting", "docker.l5d.io/buoyantio/emojivoto-voting-svc:v11", nil, grpc},
		"web":      {labels("web-svc"), "web", "docker.l5d.io/buoyantio/emojivoto-web:v11", nil, map[string]int32{"http": 8080}},
		"vote-bot": {labels("vote-bot"), "", "docker.l5d.io/buoyantio/emojivoto-web:v11", []string{"emojivoto-vote-bot"}, map[string]int32{}},
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheSamplePolicyNamesPortsAndPodsOfTheApplication(t *testing.T) {
	objects, err := manifests.Parse(emojivoto.PolicyManifest())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Server/emoji-grpc", "Server/voting-grpc", "Server/web-http", "Server/prom", "Server/admin",
		"ServerAuthorization/internal-grpc", "ServerAuthorization/web-public", "ServerAuthorization/prom-prometheus", "ServerAuthorization/admin-everyone"}
	if diff := cmp.Diff(want, names(objects)); diff != "" {
		t.Error(diff)
	}
	protocols := map[string]string{}
	for _, object := range objects {
		if object.GetAPIVersion() != "policy.linkerd.io/v1beta1" || object.GetNamespace() != "emojivoto" {
			t.Errorf("%s is %s in %s", object.GetName(), object.GetAPIVersion(), object.GetNamespace())
		}
		if object.GetKind() == "Server" {
			port, _, _ := unstructured.NestedString(object.Object, "spec", "port")
			protocol, _, _ := unstructured.NestedString(object.Object, "spec", "proxyProtocol")
			protocols[object.GetName()] = port + " " + protocol
			continue
		}
		// An authorization for a Server that is not there would grant nothing.
		if name, ok, _ := unstructured.NestedString(object.Object, "spec", "server", "name"); ok && !slices.Contains(want, "Server/"+name) {
			t.Errorf("%s is for %s, which is not there", object.GetName(), name)
		}
		if _, ok, _ := unstructured.NestedMap(object.Object, "spec", "client"); !ok {
			t.Errorf("%s has no client", object.GetName())
		}
	}
	wanted := map[string]string{"emoji-grpc": "grpc gRPC", "voting-grpc": "grpc gRPC", "web-http": "http HTTP/1", "prom": "prom HTTP/1", "admin": "linkerd-admin HTTP/1"}
	if diff := cmp.Diff(wanted, protocols); diff != "" {
		t.Error(diff)
	}
}

func TestPodsSatisfyTheRestrictedProfile(t *testing.T) {
	options := manifests.Options{Name: "a", Namespace: "b", ServiceAccount: "c", Mesh: manifests.Unmeshed, Outside: true,
		Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"n": "2"}}
	probing, err := manifests.Probed(manifests.ProbedOptions{Options: options, Readiness: probed.HTTP, Liveness: probed.Exec})
	if err != nil {
		t.Fatal(err)
	}
	for name, objects := range map[string][]*unstructured.Unstructured{
		"echo": manifests.Echo(options), "probed": probing,
		"client":               manifests.Client(manifests.ClientOptions{Options: options}),
		"client with identity": manifests.Client(manifests.ClientOptions{Options: options, TrustAnchors: "PEM"}),
	} {
		t.Run(name, func(t *testing.T) {
			template := pod(t, objects)
			spec := template.Spec
			if s := spec.SecurityContext; s == nil || !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("pod security %+v", s)
			}
			if *spec.SecurityContext.RunAsUser == 2102 {
				t.Error("the pod runs as the proxy, whose traffic is exempt from interception")
			}
			for _, container := range spec.Containers {
				s := container.SecurityContext
				if s == nil || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
					t.Errorf("security of %s: %+v", container.Name, s)
				}
				if _, err := images.Find(container.Image); err != nil {
					t.Error(err)
				}
			}
			for _, volume := range spec.Volumes {
				if volume.Projected == nil {
					t.Errorf("volume %s is not of a kind that the profile knows", volume.Name)
				}
			}
			if diff := cmp.Diff(map[string]string{"app": "a", "l": "1"}, template.Labels); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(map[string]string{"linkerd.io/inject": "disabled", "meshproof.dev/network": "outside", "n": "2"}, template.Annotations); diff != "" {
				t.Error(diff)
			}
			if names(objects)[0] != "ServiceAccount/c" || spec.ServiceAccountName != "c" {
				t.Errorf("objects %v as %s", names(objects), spec.ServiceAccountName)
			}
		})
	}
}

func TestAClientWithTrustAnchorsGetsATokenForTheIdentityService(t *testing.T) {
	template := pod(t, manifests.Client(manifests.ClientOptions{Options: manifests.Options{Name: "a", Namespace: "b"}, TrustAnchors: "PEM"}))
	token := template.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken
	if token.Audience != "identity.l5d.io" || token.Path != "linkerd-identity-token" || template.Spec.Containers[0].VolumeMounts[0].MountPath != "/var/run/secrets/tokens" {
		t.Errorf("token %+v at %+v", token, template.Spec.Containers[0].VolumeMounts)
	}
	env := map[string]string{}
	for _, e := range template.Spec.Containers[0].Env {
		env[e.Name] = e.Value
	}
	want := map[string]string{"MESHPROOF_CLIENT_IDENTITY": "default.b.serviceaccount.identity.linkerd.cluster.local", "MESHPROOF_CLIENT_TRUST_ANCHORS": "PEM"}
	if diff := cmp.Diff(want, env); diff != "" {
		t.Error(diff)
	}
}

func TestAProbedPodDeclaresExactlyTheProbesItIsAskedFor(t *testing.T) {
	kinds := []probed.Kind{"", probed.HTTP, probed.TCP, probed.GRPC, probed.Exec}
	handler := func(p *corev1.Probe) (probed.Kind, int) {
		switch {
		case p == nil:
			return "", 0
		case p.HTTPGet != nil:
			return probed.HTTP, p.HTTPGet.Port.IntValue()
		case p.TCPSocket != nil:
			return probed.TCP, p.TCPSocket.Port.IntValue()
		case p.GRPC != nil:
			return probed.GRPC, int(p.GRPC.Port)
		case p.Exec != nil:
			return probed.Exec, 0
		}
		return "none", 0
	}
	for _, readiness := range kinds {
		for _, liveness := range kinds {
			objects, err := manifests.Probed(manifests.ProbedOptions{Options: manifests.Options{Name: "a", Namespace: "b"},
				Readiness: readiness, Liveness: liveness, ReadinessFailures: 2, LivenessFailures: 3})
			if err != nil {
				t.Fatal(err)
			}
			container := pod(t, objects).Spec.Containers[0]
			ready, readyPort := handler(container.ReadinessProbe)
			live, livePort := handler(container.LivenessProbe)
			if ready != readiness || live != liveness || (readyPort != 0 && readyPort == livePort) {
				t.Errorf("asked for %q and %q, got %q on %d and %q on %d", readiness, liveness, ready, readyPort, live, livePort)
			}
			for probe, failures := range map[*corev1.Probe]int32{container.ReadinessProbe: 2, container.LivenessProbe: 3} {
				if probe != nil && (probe.PeriodSeconds != 1 || probe.FailureThreshold != failures) {
					t.Errorf("period %d, failures %d, want 1 and %d", probe.PeriodSeconds, probe.FailureThreshold, failures)
				}
			}
		}
	}
	if _, err := manifests.Probed(manifests.ProbedOptions{Readiness: "smoke"}); err == nil {
		t.Error("a kind of probe that does not exist is accepted")
	}
}

func TestObjectsSurviveBeingPrintedAndRead(t *testing.T) {
	objects := append([]*unstructured.Unstructured{manifests.Namespace("b", map[string]string{"l": "1"}, map[string]string{"linkerd.io/inject": "enabled"})},
		manifests.Echo(manifests.Options{Name: "a", Namespace: "b", Replicas: 2})...)
	text, err := manifests.YAML(objects)
	if err != nil {
		t.Fatal(err)
	}
	read, err := manifests.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := manifests.YAML(read)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(text) {
		t.Errorf("printed again as\n%s\nwas\n%s", again, text)
	}
	if strings.Contains(string(text), "null") || strings.Contains(string(text), "status") {
		t.Errorf("empty fields in\n%s", text)
	}
	if _, err := manifests.Parse([]byte("a: [")); err == nil {
		t.Error("broken YAML is accepted")
	}
}

func TestAClientOnItsNodesNetworkCallsFromTheNodesAddress(t *testing.T) {
	spec := pod(t, manifests.Client(manifests.ClientOptions{OnHost: true, TrustAnchors: "PEM", Options: manifests.Options{Name: "client", Namespace: "ns",
		ServiceAccount: "alice", Mesh: manifests.Unmeshed, Nodes: []string{"worker"}}})).Spec
	if !spec.HostNetwork || spec.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Errorf("host network %v with DNS %s", spec.HostNetwork, spec.DNSPolicy)
	}
	container := spec.Containers[0]
	if !slices.Contains(container.Args, "127.0.0.1:0") {
		t.Errorf("a control port that may collide: %v", container.Args)
	}
	from := map[string]string{}
	for _, env := range container.Env {
		if from[env.Name] = env.Value; env.ValueFrom != nil {
			from[env.Name] = env.ValueFrom.FieldRef.FieldPath
		}
	}
	want := map[string]string{agent.EnvLocalAddress: "status.hostIP", agent.EnvRoots: "PEM",
		agent.EnvIdentity: "alice.ns.serviceaccount.identity.linkerd.cluster.local"}
	if diff := cmp.Diff(want, from); diff != "" {
		t.Error(diff)
	}
	if got := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0]; got.Key != "metadata.name" || !slices.Equal(got.Values, []string{"worker"}) {
		t.Errorf("it runs where %+v", got)
	}
}

func TestPodsAreSpreadAndKeptApartByNode(t *testing.T) {
	spec := pod(t, manifests.Echo(manifests.Options{Name: "there", Namespace: "ns", Spread: map[string]string{"run": "1"}, Apart: "here"})).Spec
	spread := spec.TopologySpreadConstraints[0]
	if spread.TopologyKey != corev1.LabelHostname || spread.WhenUnsatisfiable != corev1.ScheduleAnyway || spread.LabelSelector.MatchLabels["run"] != "1" {
		t.Errorf("spread is %+v", spread)
	}
	apart := spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	if apart.TopologyKey != corev1.LabelHostname || apart.LabelSelector.MatchLabels["app"] != "here" {
		t.Errorf("apart is %+v", apart)
	}
	if plain := pod(t, manifests.Echo(manifests.Options{Name: "one", Namespace: "ns"})).Spec; plain.Affinity != nil || plain.TopologySpreadConstraints != nil {
		t.Error("a pod that asks for nothing is kept somewhere")
	}
}

func TestAnAgentWithinAPodListensForItselfAlone(t *testing.T) {
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "echo", Image: "agent", Args: []string{"echo"}, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		ReadinessProbe: &corev1.Probe{}, SecurityContext: &corev1.SecurityContext{}}}}
	manifests.AddAgent(&spec)
	if len(spec.Containers) != 2 || len(spec.Containers[0].Ports) != 1 {
		t.Fatalf("containers %+v", spec.Containers)
	}
	got := spec.Containers[1]
	if got.Image != "agent" || len(got.Args) != 1 || got.Args[0] != "client" || got.Ports != nil || got.ReadinessProbe != nil || got.SecurityContext == nil {
		t.Errorf("the agent is %+v", got)
	}
}
