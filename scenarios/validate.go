package scenarios

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	labelPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	rulePattern  = regexp.MustCompile(`^[A-Z]-\d{2}$`)
	docPattern   = regexp.MustCompile(`^DOC-(\d{2})$`)
	valuePattern = regexp.MustCompile(`\$\{([^}]*)\}`)
)

const (
	// Statements is how many statements the two source documents make; claims
	// name them DOC-01 and so on.
	Statements = 42
	// maxName leaves room for what is put around it in a namespace's name.
	maxName = 40
)

// validator checks what types alone cannot: names that must be declared, and
// fields of which exactly one is given.
type validator struct {
	*problems
	s       *Scenario
	set     *Set
	read    func(string) ([]byte, error)
	values  []string
	streams map[string]bool
	// faults are those that last.
	faults map[string]bool
	held   map[string]bool
	steps  map[string]bool
}

func (set *Set) validate(s *Scenario, problems *problems, read func(string) ([]byte, error)) {
	v := &validator{problems: problems, s: s, set: set, read: read,
		values: slices.Sorted(maps.Keys(Values())), streams: map[string]bool{}, faults: map[string]bool{}, held: map[string]bool{}, steps: map[string]bool{}}
	if name := s.Metadata.Name; !namePattern.MatchString(name) || len(name) > maxName {
		v.add(s.Pos, "metadata.name %q: want lower-case letters, digits and hyphens, at most %d", name, maxName)
	}
	for _, label := range s.Metadata.Labels {
		if !labelPattern.MatchString(label) {
			v.add(s.Pos, "label %q: want letters, digits, dots, underscores and hyphens", label)
		}
	}
	v.parts()
	v.traffic()
	if len(s.Spec.Steps) == 0 {
		v.add(s.Pos, "the scenario has no steps")
	}
	for i := range s.Spec.Steps {
		v.step(&s.Spec.Steps[i])
	}
}

func (v *validator) parts() {
	spaces := map[string]bool{}
	for _, n := range v.s.Spec.Namespaces {
		v.name(n.Pos, "namespace", n.Name, spaces)
		v.values = append(v.values, "ns."+n.Name)
	}
	inSpace := func(at Pos, name string) {
		if name != "" && !spaces[name] {
			v.add(at, "no namespace is called %q: %s", name, didYouMean(name, keys(spaces)))
		}
	}
	components := map[string]bool{}
	for i := range v.s.Spec.Workloads {
		w := &v.s.Spec.Workloads[i]
		inSpace(w.Pos, w.Namespace)
		v.fromFile(w)
		for name := range w.Components() {
			v.name(w.Pos, "workload", name, components)
		}
		for _, port := range w.Undeclared {
			if _, err := v.s.Target(w.Name+":"+port, ""); err != nil {
				v.add(w.Pos, "undeclared: %v", err)
			}
		}
		v.declarations(w)
		if w.Kind == Probed && w.Readiness+w.Liveness == "" {
			v.add(w.Pos, "a probed workload needs readiness or liveness")
		}
		if w.Kind != Probed && w.Readiness+w.Liveness != "" {
			v.add(w.Pos, "only a probed workload has probes")
		}
		v.apart(w.Pos, w.Apart, w.Name, w.Namespace)
		if w.Form == FormPod && (w.Replicas > 1 || w.OwnAnnotations != nil) {
			v.add(w.Pos, "a bare Pod has neither replicas nor annotations of a Deployment")
		}
	}
	clientNames := map[string]bool{}
	for _, c := range v.s.Spec.Clients {
		v.name(c.Pos, "client", c.Name, clientNames)
		inSpace(c.Pos, c.Namespace)
		v.apart(c.Pos, c.Apart, "", c.Namespace)
		if c.Shared && c.Apart != "" {
			v.add(c.Pos, "a shared client runs anywhere: remove apart or shared")
		}
		if c.Shared && c.Namespace != "" {
			v.add(c.Pos, "a shared client lives in a namespace of its own: remove namespace or shared")
		}
		v.inside(c)
	}
}

// inside demands a workload whose pods can take an agent along. The client is
// behind their proxy, and nothing of its own.
func (v *validator) inside(c Client) {
	if c.Inside == "" {
		return
	}
	v.workload(c.Pos, c.Inside)
	for _, w := range v.s.Spec.Workloads {
		if w.Name == c.Inside && (w.Kind != Echo || w.Later || w.Namespace != c.Namespace) {
			v.add(c.Pos, "inside %q: want a workload of kind %s of the same namespace that is deployed at the beginning", c.Inside, Echo)
		}
	}
	if c.Kind != Meshed || c.Shared || c.Apart != "" || c.ServiceAccount != "" || c.Network != "" {
		v.add(c.Pos, "a client inside a workload is %s, and has nothing of its own: remove shared, apart, serviceAccount and network", Meshed)
	}
}

// apart demands a workload in the same namespace: pods are told to keep their
// distance by labels there.
func (v *validator) apart(at Pos, from, self, namespace string) {
	if from == "" {
		return
	}
	v.workload(at, from)
	for _, w := range v.s.Spec.Workloads {
		if w.Name == from && (w.Name == self || w.Namespace != namespace || w.Kind == Emojivoto || w.Later || w.Apart != "") {
			v.add(at, "apart from %q: want another workload of the same namespace that is deployed at the beginning, anywhere, and not of kind %s", from, Emojivoto)
		}
	}
}

func (v *validator) name(at Pos, what, name string, seen map[string]bool) {
	if !namePattern.MatchString(name) || len(name) > maxName {
		v.add(at, "the %s's name %q: want lower-case letters, digits and hyphens, at most %d", what, name, maxName)
	}
	if seen[name] {
		v.add(at, "two %ss are called %q", what, name)
	}
	seen[name] = true
}

func (v *validator) step(step *Step) {
	if step.Name == "" || v.steps[step.Name] {
		v.add(step.Pos, "a step needs a name of its own; %q is empty or taken", step.Name)
	}
	v.steps[step.Name] = true
	if len(step.Actions)+len(step.Claims) == 0 {
		v.add(step.Pos, "the step does nothing and claims nothing")
	}
	for i := range step.Actions {
		v.action(&step.Actions[i])
	}
	v.windows(step)
	names := map[string]bool{}
	for i := range step.Claims {
		claim := &step.Claims[i]
		if claim.Name == "" || names[claim.Name] {
			v.add(claim.Pos, "a claim needs a name of its own within the step; %q is empty or taken", claim.Name)
		}
		names[claim.Name] = true
		v.claim(claim)
	}
}

func (v *validator) action(a *Action) {
	v.exactlyOne(a.Pos, "action", reflect.ValueOf(*a), "wait", "dialects")
	for _, object := range a.Apply {
		v.object(object)
	}
	if a.Manifest != "" {
		v.manifest(a)
	}
	for _, ref := range a.Delete {
		v.text(ref.Pos, ref.Namespace, ref.Name)
	}
	if a.Patch != nil {
		v.text(a.Patch.Pos, a.Patch.Namespace, a.Patch.Name)
		v.content(a.Patch.Merge.Pos, a.Patch.Merge.Content)
	}
	for _, annotate := range []*Annotate{a.Annotate, a.Label} {
		if annotate == nil {
			continue
		}
		v.text(annotate.Pos, annotate.Namespace, annotate.Name)
		switch {
		case annotate.Workload != "" && annotate.Kind+annotate.Name != "":
			v.add(annotate.Pos, "give kind and name, or workload, not both")
		case annotate.Workload != "":
			v.component(annotate.Pos, annotate.Workload)
		case annotate.Kind == "" || annotate.Name == "":
			v.add(annotate.Pos, "give kind and name, or workload")
		}
		if len(annotate.Set)+len(annotate.Remove) == 0 {
			v.add(annotate.Pos, "nothing is set and nothing removed")
		}
	}
	for _, ref := range []*WorkloadRef{a.Restart, a.Deploy, a.Await, a.Remove} {
		if ref != nil {
			v.workload(ref.Pos, ref.Workload)
		}
	}
	if a.Deploy != nil {
		for _, w := range v.s.Spec.Workloads {
			if w.Name == a.Deploy.Workload && !w.Later {
				v.add(a.Deploy.Pos, "workload %q is deployed before the first step: give it later: true", w.Name)
			}
		}
	}
	if (a.Install != nil || a.Scale != nil) && !v.s.Spec.Serial {
		v.add(a.Pos, "this changes what other scenarios rely on: the scenario needs serial: true")
	}
	if a.Install != nil {
		v.text(a.Install.Pos, append(a.Install.ClusterNetworks, a.Install.ProbeNetworks...)...)
	}
	if a.Start != nil {
		v.request(a.Start.Pos, &a.Start.Request)
		v.declare(a.Start.Pos, "stream", a.Start.Name, v.streams)
		v.pace(a.Start)
	}
	if a.Stop != nil {
		v.known(a.Stop.Pos, "stream", a.Stop.Stream, v.streams)
		if v.s.flows(a.Stop.Stream) {
			v.add(a.Stop.Pos, "the stream %q is of spec.traffic and flows until the end", a.Stop.Stream)
		}
	}
	if a.Hold != nil {
		v.request(a.Hold.Pos, &a.Hold.Request)
		v.declare(a.Hold.Pos, "connection", a.Hold.Name, v.held)
	}
	v.fault(a)
}

func (v *validator) manifest(a *Action) { v.file(a.Pos, a.Manifest) }

// file reads the objects of a file beside the scenario, and keeps them for whoever
// applies them.
func (v *validator) file(at Pos, name string) (objects []Object, ok bool) {
	if filepath.Base(name) != name {
		v.add(at, "manifest %q: want the name of a file in the folder %s beside the scenario", name, ManifestsFolder)
		return nil, false
	}
	data, err := v.read(name)
	if err != nil {
		v.add(at, "manifest %q cannot be read: %v", name, err)
		return nil, false
	}
	folder := filepath.Dir(v.s.File)
	if objects, err = Objects(filepath.Join(folder, ManifestsFolder, name), data); err != nil {
		v.add(at, "manifest %q: %v", name, err)
		return nil, false
	}
	for _, object := range objects {
		v.object(object)
	}
	v.set.manifests[manifestKey{folder, name}] = objects
	return objects, true
}

func (v *validator) claim(c *Claim) {
	for _, id := range c.Shows {
		v.shown(c.Pos, id)
	}
	v.exactlyOne(c.Pos, "claim", reflect.ValueOf(*c), "name", "shows", "feature", "skip", "dialects", "noOracle", "within")
	if c.NoOracle != "" && c.Call == nil && c.Matrix == nil && c.Held == nil && c.Probe == nil && c.Policy == nil && c.Rate == nil && c.Admission == nil {
		v.add(c.Pos, "the oracle is not asked about a claim of this form: remove noOracle")
	}
	if c.NoOracle != "" && c.leavesOpen() {
		v.add(c.Pos, "neither the claim nor the oracle says what is expected: give expect (of a rate, limited), or remove noOracle")
	}
	if c.Within > 0 && (c.Rate != nil || c.Traffic != nil || c.Command != nil) {
		v.add(c.Pos, "a claim of this form is judged once: remove within")
	}
	switch {
	case c.Call != nil:
		v.request(c.Call.Pos, &c.Call.Request)
		if (c.Call.Status != nil || c.Call.Answer != nil) && c.Call.Protocol != HTTP1 && c.Call.Protocol != HTTP2 && c.Call.Protocol != GRPC {
			v.add(c.Call.Pos, "%s has no status and no headers", c.Call.Protocol)
		}
		v.answer(c.Call.Answer)
	case c.Matrix != nil:
		v.matrix(c.Matrix)
	case c.Probe != nil:
		v.workload(c.Probe.Pos, c.Probe.Workload)
		if c.Probe.Ready == nil && c.Probe.Restarts == "" && c.Probe.Answered == 0 && c.Probe.Denied == 0 {
			v.add(c.Probe.Pos, "nothing is expected: give ready, restarts, answered or denied")
		}
	case c.Held != nil:
		v.heldClaim(c.Held)
	case c.Traffic != nil:
		v.known(c.Traffic.Pos, "stream", c.Traffic.Stream, v.streams)
		if from := c.Traffic.From; from != "" && !v.steps[from] {
			v.add(c.Traffic.Pos, "no step up to here is called %q: %s", from, didYouMean(from, keys(v.steps)))
		}
	case c.Authz != nil:
		v.component(c.Authz.Pos, c.Authz.Workload)
	case c.Metric != nil:
		v.metric(c.Metric)
	case c.Log != nil:
		v.log(c.Log)
	case c.Rate != nil:
		v.rate(c.Rate)
	case c.Status != nil:
		v.status(c.Status)
	case c.Command != nil:
		if (c.Command.Image == "") == (c.Command.Workload == "") {
			v.add(c.Command.Pos, "give image or workload, one of the two")
		} else if c.Command.Workload != "" {
			v.component(c.Command.Pos, c.Command.Workload)
		}
		v.text(c.Command.Pos, append(c.Command.Run, c.Command.Namespace)...)
	case c.Admission != nil:
		v.object(c.Admission.Object)
	case c.Certify != nil:
		v.certify(c.Certify)
	case c.Event != nil:
		v.text(c.Event.Pos, c.Event.Name)
	case c.Policy != nil:
		if _, err := v.s.Target(c.Policy.Target, ""); err != nil {
			v.add(c.Policy.Pos, "%v", err)
		}
		if (c.Policy.Server == "") == (c.Policy.Enforced == nil) {
			v.add(c.Policy.Pos, "give server or enforced, one of the two")
		}
	case c.Pods != nil:
		v.component(c.Pods.Pos, c.Pods.Workload)
	}
}

// leavesOpen says whether the claim leaves what it expects to the oracle.
func (c *Claim) leavesOpen() bool {
	switch {
	case c.Call != nil:
		return len(c.Call.Expect) == 0
	case c.Matrix != nil:
		return slices.ContainsFunc(c.Matrix.Rows, func(r Row) bool { return len(r.Clients) > 0 })
	case c.Rate != nil:
		return c.Rate.Limited == nil && slices.ContainsFunc(c.Rate.Calls, func(f RateCall) bool { return f.Limited == nil })
	}
	return false
}

func (v *validator) matrix(m *Matrix) {
	if len(m.Protocols) == 0 {
		v.add(m.Pos, "the matrix has no protocols")
	}
	seen := map[string]bool{}
	for i := range m.Rows {
		row := &m.Rows[i]
		for _, id := range row.Shows {
			v.shown(row.Pos, id)
		}
		protocols := row.Protocols
		if protocols == nil {
			protocols = m.Protocols
		}
		for _, protocol := range protocols {
			if _, err := v.s.Target(row.Target, protocol); err != nil {
				v.add(row.Pos, "%v", err)
				break
			}
		}
		if len(row.cells()) == 0 {
			v.add(row.Pos, "the row has no cells: give expect or clients")
		}
		for _, cell := range row.cells() {
			v.client(cell.Pos, cell.Client)
			for _, protocol := range protocols {
				key := row.Target + " " + cell.Client + " " + string(protocol)
				if seen[key] {
					v.add(cell.Pos, "%s speaking %s to %s stands in the matrix twice", cell.Client, protocol, row.Target)
				}
				seen[key] = true
			}
		}
	}
	if len(seen) == 0 {
		v.add(m.Pos, "the matrix has no cells")
	}
}

func (v *validator) request(at Pos, r *Request) {
	v.client(at, r.Client)
	if _, err := v.s.Target(r.Target, r.Protocol); err != nil {
		v.add(at, "%v", err)
	}
	if r.Transport != nil && !v.speaksMeshTLS(r.Client) {
		v.add(r.Transport.Pos, "client %q does not speak mesh TLS itself: a transport header needs one of kind %s, %s, %s or %s", r.Client, MeshedDirect, SPIFFE, TLSNoIdentity, ForeignRoot)
	}
	if r.Via == ViaLoopback && !slices.ContainsFunc(v.s.Spec.Clients, func(c Client) bool { return c.Name == r.Client && c.Inside != "" }) {
		v.add(at, "client %q is inside no workload, and so has no loopback in common with any", r.Client)
	}
	if r.Raw != "" && r.Protocol != HTTP1 {
		v.add(at, "raw replaces a request of %s, not one of %s", HTTP1, r.Protocol)
	}
	if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
		v.add(at, "path %q does not begin with a slash", r.Path)
	}
}

// speaksMeshTLS says whether a client ends mesh TLS itself, without a proxy.
func (v *validator) speaksMeshTLS(name string) bool {
	for _, c := range v.s.Spec.Clients {
		if c.Name == name {
			return c.Kind != Meshed && c.Kind != Unmeshed && c.Kind != ForeignTLS
		}
	}
	return true // that it is not declared is said elsewhere
}

// answer demands expressions that compile.
func (v *validator) answer(a *Answer) {
	if a == nil {
		return
	}
	expressions := slices.Collect(maps.Values(a.Headers))
	if a.Body != nil {
		expressions = append(expressions, *a.Body)
	}
	if len(expressions)+len(a.Absent) == 0 {
		v.add(a.Pos, "nothing is said about the answer: give headers, absent or body")
	}
	for _, text := range expressions {
		if _, err := regexp.Compile(text); err != nil {
			v.add(a.Pos, "%q is not a regular expression: %v", text, err)
		}
	}
}

func (v *validator) client(at Pos, name string) {
	var names []string
	for _, c := range v.s.Spec.Clients {
		if c.Name == name {
			return
		}
		names = append(names, c.Name)
	}
	v.add(at, "no client is called %q: %s", name, didYouMean(name, names))
}

func (v *validator) workload(at Pos, name string) {
	var names []string
	for _, w := range v.s.Spec.Workloads {
		if w.Name == name {
			return
		}
		names = append(names, w.Name)
	}
	v.add(at, "no workload is called %q: %s", name, didYouMean(name, names))
}

func (v *validator) component(at Pos, name string) {
	if _, _, ok := v.s.Component(name); !ok {
		v.add(at, "no workload is called %q: %s", name, didYouMean(name, v.s.componentNames()))
	}
}

func (v *validator) shown(at Pos, id string) {
	if match := docPattern.FindStringSubmatch(id); match != nil {
		if number, _ := strconv.Atoi(match[1]); number < 1 || number > Statements {
			v.add(at, "%s: the documents make statements DOC-01 to DOC-%02d", id, Statements)
		}
		return
	}
	if !rulePattern.MatchString(id) {
		v.add(at, "%q is neither a statement such as DOC-07 nor a rule such as X-33", id)
	}
}

func (v *validator) declare(at Pos, what, name string, seen map[string]bool) {
	if seen[name] {
		v.add(at, "the %s %q is started twice", what, name)
	}
	seen[name] = true
}

func (v *validator) known(at Pos, what, name string, seen map[string]bool) {
	if !seen[name] {
		v.add(at, "no %s up to here is called %q: %s", what, name, didYouMean(name, keys(seen)))
	}
}

// object demands what every Kubernetes object has, and known named values.
func (v *validator) object(o Object) {
	for _, field := range []string{"apiVersion", "kind"} {
		if text, ok := o.Content[field].(string); !ok || text == "" {
			v.add(o.Pos, "the object has no %s", field)
		}
	}
	metadata, _ := o.Content["metadata"].(map[string]any)
	if name, ok := metadata["name"].(string); !ok || name == "" {
		v.add(o.Pos, "the object has no metadata.name")
	}
	v.content(o.Pos, o.Content)
}

func (v *validator) content(at Pos, value any) {
	switch value := value.(type) {
	case string:
		v.text(at, value)
	case map[string]any:
		for _, inner := range value {
			v.content(at, inner)
		}
	case []any:
		for _, inner := range value {
			v.content(at, inner)
		}
	}
}

func (v *validator) text(at Pos, texts ...string) {
	for _, text := range texts {
		for _, match := range valuePattern.FindAllStringSubmatch(text, -1) {
			if !contains(v.values, match[1]) {
				v.add(at, "${%s} is not a named value: %s", match[1], didYouMean(match[1], v.values))
			}
		}
	}
}

// exactlyOne demands one form of an action or a claim.
func (v *validator) exactlyOne(at Pos, what string, value reflect.Value, except ...string) {
	fields, names := structFields(value.Type())
	var given, forms []string
	for _, name := range names {
		if contains(except, name) {
			continue
		}
		forms = append(forms, name)
		if !value.FieldByIndex(fields[name].Index).IsZero() {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0:
		v.add(at, "the %s says nothing: give one of %s", what, strings.Join(forms, ", "))
	case len(given) > 1:
		v.add(at, "the %s has %s: give one only", what, strings.Join(given, " and "))
	}
}

// Expand replaces the named values in a text. An unknown one is an error: the
// parser has refused it already.
func Expand(text string, values map[string]string) (string, error) {
	var err error
	out := valuePattern.ReplaceAllStringFunc(text, func(match string) string {
		value, ok := values[match[2:len(match)-1]]
		if !ok {
			err = fmt.Errorf("%s is not a named value", match)
		}
		return value
	})
	return out, err
}

func keys(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for key := range m {
		out = append(out, key)
	}
	return out
}
