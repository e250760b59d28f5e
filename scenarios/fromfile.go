package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// A workload of kind manifest is somebody's own: what a file beside the scenario
// says is deployed, and called by the names that its objects have.

// podKinds are the kinds of objects whose pods can be called, with where their
// template of a pod is.
var podKinds = map[string][]string{
	"Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"}, "ReplicaSet": {"spec", "template"}, "Pod": {},
}

// PodTemplate is what an object makes pods of, or is itself where it is a Pod; nil
// for an object whose pods cannot be called. Changes of it change the object.
func PodTemplate(object map[string]any) map[string]any {
	kind, _ := object["kind"].(string)
	path, ok := podKinds[kind]
	if !ok {
		return nil
	}
	return within(object, path...)
}

// within is a map inside others; nil when it is not there.
func within(object map[string]any, path ...string) map[string]any {
	for _, field := range path {
		object, _ = object[field].(map[string]any)
	}
	return object
}

// fromFile reads what a workload of kind manifest consists of.
func (v *validator) fromFile(w *Workload) {
	if w.Kind != FromManifest {
		if w.Manifest != "" {
			v.add(w.Pos, "only a workload of kind %s comes from a file", FromManifest)
		}
		return
	}
	if w.Manifest == "" {
		v.add(w.Pos, "a workload of kind %s needs manifest, the file's name", FromManifest)
		return
	}
	if w.Form != "" || w.Replicas != 0 || w.Labels != nil || w.Annotations != nil || w.OwnAnnotations != nil || w.ServiceAccount != "" || w.Apart != "" {
		v.add(w.Pos, "what the pods of %s are like stands in %s: remove form, replicas, labels, annotations, serviceAccount and apart", w.Name, w.Manifest)
	}
	objects, ok := v.file(w.Pos, w.Manifest)
	if !ok {
		return
	}
	w.Parts = map[string]Component{}
	for _, object := range objects {
		template := PodTemplate(object.Content)
		if template == nil {
			continue
		}
		name, _ := within(object.Content, "metadata")["name"].(string)
		if _, twice := w.Parts[name]; twice {
			v.add(object.Pos, "two objects whose pods can be called are named %q", name)
		}
		part := Component{Ports: portsOf(template), Replicas: replicasIn(object.Content)}
		part.ServiceAccount, _ = within(template, "spec")["serviceAccountName"].(string)
		for _, other := range objects {
			if part.Service == "" {
				part.before(other.Content, within(template, "metadata", "labels"))
			}
		}
		w.Parts[name] = part
	}
	if len(w.Parts) == 0 {
		v.add(w.Pos, "%s holds no object with pods that can be called: %s", w.Manifest, slices.Sorted(maps.Keys(podKinds)))
	}
}

// replicasIn is how many pods an object has, as far as it says.
func replicasIn(object map[string]any) int {
	if number, ok := within(object, "spec")["replicas"].(int64); ok {
		return int(number)
	}
	return 1
}

// portsOf are the TCP ports that the containers of a template declare, by name, or
// by number where they have none.
func portsOf(template map[string]any) map[string]Port {
	ports := map[string]Port{}
	containers, _ := within(template, "spec")["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		declared, _ := container["ports"].([]any)
		for _, p := range declared {
			port, _ := p.(map[string]any)
			whole, ok := port["containerPort"].(int64)
			number := int(whole)
			if protocol, said := port["protocol"].(string); !ok || said && protocol != "TCP" {
				continue
			}
			name, _ := port["name"].(string)
			if name == "" {
				name = strconv.Itoa(number)
			}
			ports[name] = same(number)
		}
	}
	return ports
}

// before puts a Service of the file before the pods, if it is one and selects them.
func (c *Component) before(service, labels map[string]any) {
	spec := within(service, "spec")
	selector := within(spec, "selector")
	if service["kind"] != "Service" || len(selector) == 0 || spec["clusterIP"] == "None" {
		return
	}
	for key, value := range selector {
		if fmt.Sprint(labels[key]) != fmt.Sprint(value) {
			return
		}
	}
	c.Service, _ = within(service, "metadata")["name"].(string)
	ports, _ := spec["ports"].([]any)
	for _, p := range ports {
		port, _ := p.(map[string]any)
		number, _ := port["port"].(int64)
		target := port["targetPort"]
		if target == nil {
			target = number
		}
		for name, one := range c.Ports {
			if target == int64(one.Container) || target == name {
				c.Ports[name] = Port{Container: one.Container, Service: int(number)}
			}
		}
	}
}
