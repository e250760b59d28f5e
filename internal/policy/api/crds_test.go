package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// TestSchemasAreStructural applies the part of the API server's validation that
// decides whether a schema is served at all.
func TestSchemasAreStructural(t *testing.T) {
	for kind, crd := range definitions(t) {
		for _, v := range crd.Spec.Versions {
			for _, err := range structuralschema.ValidateStructural(nil, structural(t, v)) {
				t.Errorf("%s %s: %v", kind, v.Name, err)
			}
		}
	}
}

// served is what of a version concerns users.
type served struct {
	Deprecated, Storage bool
	Columns             string
}

func TestEveryServedVersionIsAsTheRuleBookSays(t *testing.T) {
	got := map[string]map[string]served{}
	names := map[string][]string{}
	for kind, crd := range definitions(t) {
		names[kind] = crd.Spec.Names.ShortNames
		got[kind] = map[string]served{}
		for _, v := range crd.Spec.Versions {
			if !v.Served {
				continue
			}
			var columns []string
			for _, c := range v.AdditionalPrinterColumns {
				columns = append(columns, c.Name)
			}
			if v.Deprecated != (v.DeprecationWarning != nil && strings.Contains(*v.DeprecationWarning, kind)) {
				t.Errorf("%s %s: deprecated %v without a warning that fits", kind, v.Name, v.Deprecated)
			}
			got[kind][v.Name] = served{v.Deprecated, v.Storage, strings.Join(columns, " | ")}
		}
	}
	want := map[string]map[string]served{
		"Server": {
			"v1alpha1": {Deprecated: true, Columns: "Port | Protocol"},
			"v1beta1":  {Deprecated: true, Columns: "Port | Protocol"},
			"v1beta2":  {Columns: "Port | Protocol"},
			"v1beta3":  {Storage: true, Columns: "Port | Protocol | Access Policy"},
		},
		"ServerAuthorization": {
			"v1alpha1": {Deprecated: true, Columns: "Server"},
			"v1beta1":  {Storage: true, Columns: "Server"},
		},
		"AuthorizationPolicy":      {"v1alpha1": {Storage: true, Columns: "Target"}},
		"MeshTLSAuthentication":    {"v1alpha1": {Storage: true}},
		"NetworkAuthentication":    {"v1alpha1": {Storage: true}},
		"HTTPLocalRateLimitPolicy": {"v1alpha1": {Storage: true, Columns: "Target"}},
		"HTTPRoute": {
			"v1alpha1": {Columns: "Hostnames | Age"}, "v1beta1": {Columns: "Hostnames | Age"}, "v1beta2": {Columns: "Hostnames | Age"},
			"v1beta3": {Storage: true, Columns: "Hostnames | Age"},
		},
		"HTTPRoute.gateway.networking.k8s.io": {"v1": {Storage: true, Columns: "Hostnames | Age"}, "v1beta1": {Columns: "Hostnames | Age"}},
		"GRPCRoute.gateway.networking.k8s.io": {"v1": {Storage: true, Columns: "Hostnames | Age"}, "v1alpha2": {Columns: "Hostnames | Age"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	wantNames := map[string][]string{
		"Server": {"srv"}, "ServerAuthorization": {"saz", "serverauthz", "srvauthz"}, "AuthorizationPolicy": {"authzpolicy"},
		"MeshTLSAuthentication": {"meshtlsauthn"}, "NetworkAuthentication": {"netauthn", "networkauthn"}, "HTTPLocalRateLimitPolicy": nil,
		"HTTPRoute": nil, "HTTPRoute.gateway.networking.k8s.io": nil, "GRPCRoute.gateway.networking.k8s.io": nil,
	}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Errorf("short names: -want +got\n%s", diff)
	}
}

func TestTheWatchedVersionsAreTheStoredOnes(t *testing.T) {
	stored := map[string]string{}
	for _, crd := range definitions(t) {
		for _, v := range crd.Spec.Versions {
			if v.Storage {
				stored[crd.Name] = v.Name
			}
		}
	}
	watched := map[string]string{}
	for _, resource := range api.Resources() {
		watched[api.CRDName(resource)] = resource.Version
	}
	if diff := cmp.Diff(stored, watched); diff != "" {
		t.Errorf("-stored +watched\n%s", diff)
	}
}

// TestSchemasAdmitWhatEachVersionAllows: a row is a spec, and the versions that
// accept it.
func TestSchemasAdmitWhatEachVersionAllows(t *testing.T) {
	all := []string{"v1alpha1", "v1beta1", "v1beta2", "v1beta3"}
	both := []string{"v1alpha1", "v1beta1"}
	for _, row := range []struct {
		name, kind, spec string
		accepted         []string
	}{
		{"labels and a named port", "Server", `{podSelector: {matchLabels: {app: web}}, port: http}`, all},
		{"a numeric port", "Server", `{podSelector: {matchLabels: {app: web}}, port: 8080}`, all},
		{"expressions", "Server", `{podSelector: {matchExpressions: [{key: app, operator: In, values: [a]}]}, port: 1}`, all},
		{"an expression without values", "Server", `{podSelector: {matchExpressions: [{key: app, operator: In}]}, port: 1}`, all},
		{"an empty selector", "Server", `{podSelector: {}, port: 1}`, []string{"v1beta1", "v1beta2", "v1beta3"}},
		{"both forms of a selector", "Server", `{podSelector: {matchLabels: {}, matchExpressions: []}, port: 1}`, []string{"v1beta1", "v1beta2", "v1beta3"}},
		{"no port", "Server", `{podSelector: {matchLabels: {}}}`, nil},
		{"no selector", "Server", `{port: 1}`, nil},
		{"external workloads", "Server", `{externalWorkloadSelector: {}, port: 1}`, []string{"v1beta2", "v1beta3"}},
		{"both selectors", "Server", `{podSelector: {matchLabels: {}}, externalWorkloadSelector: {}, port: 1}`, []string{"v1alpha1", "v1beta1"}},
		{"an unknown operator", "Server", `{podSelector: {matchExpressions: [{key: app, operator: Is}]}, port: 1}`, nil},
		{"any proxyProtocol, for the webhook to judge", "Server", `{podSelector: {matchLabels: {}}, port: 1, proxyProtocol: http}`, all},
		{"a port that is a list", "Server", `{podSelector: {matchLabels: {}}, port: [1]}`, nil},
		{"an authorization by name", "ServerAuthorization", `{server: {name: web}, client: {unauthenticated: true}}`, both},
		{"an authorization by selector", "ServerAuthorization", `{server: {selector: {matchLabels: {a: b}}}, client: {meshTLS: {unauthenticatedTLS: true}}}`, both},
		{"name and selector", "ServerAuthorization", `{server: {name: web, selector: {}}, client: {}}`, nil},
		{"neither name nor selector", "ServerAuthorization", `{server: {}, client: {}}`, nil},
		{"a server's name with a dot", "ServerAuthorization", `{server: {name: web.http}, client: {}}`, nil},
		{"nobody", "ServerAuthorization", `{server: {name: web}, client: {}}`, both},
		{"no client", "ServerAuthorization", `{server: {name: web}}`, nil},
		{"networks", "ServerAuthorization", `{server: {name: web}, client: {networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}}`, both},
		{"a network without cidr", "ServerAuthorization", `{server: {name: web}, client: {networks: [{except: [10.1.0.0/16]}]}}`, nil},
		{"identities", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {identities: ["*", "*.a.b", a.b, x]}}}`, both},
		{"a SPIFFE identity", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {identities: ["spiffe://a/b"]}}}`, nil},
		{"a wildcard inside", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {identities: ["a.*.b"]}}}`, nil},
		{"an identity in upper case", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {identities: [A.b]}}}`, nil},
		{"an empty identity", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {identities: [""]}}}`, nil},
		{"accounts", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {serviceAccounts: [{name: a}, {name: b, namespace: c}]}}}`, both},
		{"an account without a name", "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {serviceAccounts: [{namespace: c}]}}}`, nil},
		{"unauthenticated as text", "ServerAuthorization", `{server: {name: web}, client: {unauthenticated: "yes"}}`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var accepted []string
			for _, v := range definitions(t)[row.kind].Spec.Versions {
				object := map[string]any{"apiVersion": "policy.linkerd.io/" + v.Name, "kind": row.kind, "spec": decode(t, row.spec)}
				if len(validate(t, v, object)) == 0 {
					accepted = append(accepted, v.Name)
				}
			}
			slices.Sort(accepted)
			if diff := cmp.Diff(row.accepted, accepted); diff != "" {
				t.Errorf("accepted by: -want +got\n%s", diff)
			}
		})
	}
}

func TestDefaultsAndUnknownFieldsAreAsEachVersionSays(t *testing.T) {
	want := map[string]any{
		"v1alpha1": decode(t, `{podSelector: {matchLabels: {a: b}}, port: 1, proxyProtocol: unknown}`),
		"v1beta1":  decode(t, `{podSelector: {matchLabels: {a: b}}, port: 1, proxyProtocol: unknown}`),
		"v1beta2":  decode(t, `{podSelector: {matchLabels: {a: b}}, port: 1, proxyProtocol: unknown}`),
		"v1beta3":  decode(t, `{podSelector: {matchLabels: {a: b}}, port: 1, proxyProtocol: unknown, accessPolicy: audit}`),
	}
	got := map[string]any{}
	for _, v := range definitions(t)["Server"].Spec.Versions {
		object := map[string]any{"spec": decode(t, `{podSelector: {matchLabels: {a: b}}, port: 1, accessPolicy: audit, futureField: x}`)}
		structural := structural(t, v)
		pruning.Prune(object, structural, true)
		defaulting.Default(object, structural)
		got[v.Name] = object["spec"]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	bare := map[string]any{"spec": decode(t, `{podSelector: {}, port: 1}`)}
	versions := definitions(t)["Server"].Spec.Versions
	defaulting.Default(bare, structural(t, versions[len(versions)-1]))
	if diff := cmp.Diff(decode(t, `{podSelector: {}, port: 1, proxyProtocol: unknown, accessPolicy: deny}`), bare["spec"]); diff != "" {
		t.Errorf("a bare v1beta3 Server: -want +got\n%s", diff)
	}
}

// TestAnInstallationServesExactlyTheseVersions pins what is installed (C-01 to
// C-30): one of a list that is derived from elsewhere could vanish unnoticed.
func TestAnInstallationServesExactlyTheseVersions(t *testing.T) {
	var served []string
	for name, crd := range definitions(t) {
		for _, v := range crd.Spec.Versions {
			served = append(served, name+" "+v.Name)
		}
	}
	slices.Sort(served)
	want := []string{
		"AuthorizationPolicy v1alpha1", "GRPCRoute.gateway.networking.k8s.io v1", "GRPCRoute.gateway.networking.k8s.io v1alpha2", "HTTPLocalRateLimitPolicy v1alpha1",
		"HTTPRoute v1alpha1", "HTTPRoute v1beta1", "HTTPRoute v1beta2", "HTTPRoute v1beta3", "HTTPRoute.gateway.networking.k8s.io v1", "HTTPRoute.gateway.networking.k8s.io v1beta1",
		"MeshTLSAuthentication v1alpha1", "NetworkAuthentication v1alpha1",
		"Server v1alpha1", "Server v1beta1", "Server v1beta2", "Server v1beta3", "ServerAuthorization v1alpha1", "ServerAuthorization v1beta1",
	}
	if diff := cmp.Diff(want, served); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestOnlyWhatTheControllerWritesHasAStatus: C-10, C-23, S-11.
func TestOnlyWhatTheControllerWritesHasAStatus(t *testing.T) {
	for kind, crd := range definitions(t) {
		want := strings.Contains(kind, "Route") || kind == api.HTTPLocalRateLimitPolicyKind
		for _, v := range crd.Spec.Versions {
			if got := v.Subresources != nil && v.Subresources.Status != nil; got != want {
				t.Errorf("%s %s: status subresource %v", kind, v.Name, got)
			}
		}
	}
}

func definitions(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	return read(t, api.CRDs())
}

// read is the definitions by kind, with the group where it is not Linkerd's.
func read(t *testing.T, documents [][]byte) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	all := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, document := range documents {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(document, &crd); err != nil {
			t.Fatal(err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		// What the API server does on creation.
		for _, v := range crd.Spec.Versions {
			if v.Storage {
				crd.Status.StoredVersions = []string{v.Name}
			}
		}
		name := crd.Spec.Names.Kind
		if crd.Spec.Group != api.Group {
			name += "." + crd.Spec.Group
		}
		all[name] = &crd
	}
	return all
}

func structural(t *testing.T, v apiextensionsv1.CustomResourceDefinitionVersion) *structuralschema.Structural {
	t.Helper()
	s, err := structuralschema.NewStructural(props(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func props(t *testing.T, v apiextensionsv1.CustomResourceDefinitionVersion) *apiextensions.JSONSchemaProps {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema.DeepCopy(), &internal, nil); err != nil {
		t.Fatal(err)
	}
	return &internal
}

// validate lists what the version's schema finds wrong with the object.
func validate(t *testing.T, v apiextensionsv1.CustomResourceDefinitionVersion, object map[string]any) []string {
	t.Helper()
	defaulting.Default(object, structural(t, v))
	validator, _, err := validation.NewSchemaValidator(props(t, v))
	if err != nil {
		t.Fatal(err)
	}
	var wrong []string
	for _, err := range validation.ValidateCustomResource(nil, object, validator) {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}
