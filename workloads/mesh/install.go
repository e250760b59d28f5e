package mesh

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/template"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/images"
	"github.com/meshproof/meshproof/workloads/images/reference"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	// agentImage runs every role.
	agentImage = "meshproof/agent"
	// DefaultTag is the image's tag when none is asked for.
	DefaultTag = images.Tag

	replicas   = 1
	replicasHA = 3
)

//go:embed manifests/*.yaml manifests/_parts.yaml
var files embed.FS

// Options of an installation. The zero value installs what Linkerd's own
// defaults would.
type Options struct {
	// DefaultInboundPolicy is one of the six names; "" means all-unauthenticated.
	DefaultInboundPolicy string
	// ClusterNetworks and ProbeNetworks are address ranges such as 10.0.0.0/8;
	// nil means the default ranges.
	ClusterNetworks, ProbeNetworks []string
	// HA runs three replicas of everything, and makes pods and policies wait for
	// the webhooks instead of passing without them (failurePolicy Fail).
	HA bool
	// ProxyExemption is how interception knows the proxy's own traffic; "" means
	// that the injector finds out what the cluster needs.
	ProxyExemption values.Exemption
	// Dialect is "documented" or "linkerd"; "" means the former.
	Dialect string
	// ImageTag of the agent's image; "" means DefaultTag.
	ImageTag string
	// ProxyImage and ControllerImage are somebody's own builds of the mesh, in
	// place of the agent's image: the one for what is added to pods, the other for
	// the control plane. They are started as the agent is, with the role as first
	// argument, and need the program at the agent's path. "" means the agent.
	ProxyImage, ControllerImage string
	// Registry, when not empty, has all images, in place of the registries that
	// their names say.
	Registry string
	// ImagePullPolicy is Always, IfNotPresent or Never; "" means IfNotPresent.
	ImagePullPolicy string
	// NativeSidecar makes proxies native sidecars where the cluster has them.
	NativeSidecar bool
	// SkipCRDs names CRDs that are left out, because the cluster has them from
	// somebody else: those of the Gateway API, which belongs to no mesh.
	SkipCRDs []string
}

// Values is the configuration that follows from the options. The error names
// every option that is wrong.
func (o Options) Values() (values.Values, error) {
	v := values.Default()
	if o.DefaultInboundPolicy != "" {
		v.DefaultInboundPolicy = api.PolicyName(o.DefaultInboundPolicy)
	}
	if o.ClusterNetworks != nil {
		v.ClusterNetworks = o.ClusterNetworks
	}
	if o.ProbeNetworks != nil {
		v.ProbeNetworks = o.ProbeNetworks
	}
	if o.ProxyExemption != "" {
		v.ProxyExemption = o.ProxyExemption
	}
	if o.Dialect != "" {
		v.Dialect = o.Dialect
	}
	agent := agentImage + ":" + cmp.Or(o.ImageTag, DefaultTag)
	v.ProxyImage = reference.Relocate(cmp.Or(o.ProxyImage, agent), o.Registry)
	v.ControllerImage = reference.Relocate(cmp.Or(o.ControllerImage, agent), o.Registry)
	v.ProxyVersion = reference.Version(v.ProxyImage)
	v.NativeSidecar = o.NativeSidecar
	if o.ImagePullPolicy != "" {
		v.ImagePullPolicy = corev1.PullPolicy(o.ImagePullPolicy)
	}
	if err := v.Validate(); err != nil {
		return values.Values{}, err
	}
	return v, nil
}

// data is what the templates see.
type data struct {
	Values        values.Values
	Namespace     string
	Config        string // the values as YAML
	Checksum      string // of Config
	Replicas      int
	FailurePolicy string
}

// Install returns the manifests as YAML documents in the order in which they can
// be applied.
func Install(o Options) ([]byte, error) {
	v, err := o.Values()
	if err != nil {
		return nil, err
	}
	config, err := v.Marshal()
	if err != nil {
		return nil, err
	}
	d := data{
		Values: v, Namespace: v.ControlPlaneNamespace,
		Config: string(config), Checksum: fmt.Sprintf("%x", sha256.Sum256(config)),
		Replicas: replicas, FailurePolicy: "Ignore",
	}
	if o.HA {
		d.Replicas, d.FailurePolicy = replicasHA, "Fail"
	}
	templates, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"indent": indent}).
		ParseFS(files, "manifests/_parts.yaml", "manifests/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the mesh's manifests: %w", err)
	}
	names, err := fs.Glob(files, "manifests/[0-9]*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the mesh's manifests: %w", err)
	}
	var out bytes.Buffer
	for i, name := range names {
		var rendered bytes.Buffer
		if err := templates.ExecuteTemplate(&rendered, strings.TrimPrefix(name, "manifests/"), d); err != nil {
			return nil, fmt.Errorf("fill in the mesh's manifests: %w", err)
		}
		document(&out, rendered.Bytes())
		// The CRDs follow the namespace: everything after them may need them.
		if i == 0 {
			for _, crd := range api.CRDs() {
				if !o.skips(crd) {
					document(&out, crd)
				}
			}
		}
	}
	return out.Bytes(), nil
}

// skips says whether a CRD, as YAML of ours, is among those to leave out.
func (o Options) skips(crd []byte) bool {
	return slices.ContainsFunc(o.SkipCRDs, func(name string) bool { return bytes.Contains(crd, []byte("\n  name: "+name+"\n")) })
}

// document appends one or more documents and makes sure that a separator stands
// before them.
func document(out *bytes.Buffer, text []byte) {
	text = bytes.TrimPrefix(bytes.TrimSpace(text), []byte("---\n"))
	if out.Len() > 0 {
		out.WriteString("---\n")
	}
	out.Write(text)
	out.WriteByte('\n')
}

func indent(spaces int, text string) string {
	pad := strings.Repeat(" ", spaces)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return pad + strings.Join(lines, "\n"+pad)
}
