// Package granted answers "who is granted access here, and by which object": the
// table of `meshproof authz --policies`.
//
// Pods and the policies of a cluster go in, the oracle resolves each port, and
// what it finds becomes rows, one for each Server, route and authorization (V-20).
// It counts nothing and asks no proxy; the metrics' table is package authz.
//
// Linkerd's table leaves out routes of the Gateway API (V-22), ports that no
// container declares (V-21), and what is granted by default policies, access
// policies and for probes (V-23). The first are rows here like others; the rest is
// marked BuiltIn or Undeclared and printed on demand.
package granted

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// AllRoutes stands for every route of a Server (V-20).
const AllRoutes = "*"

// Row is one grant, or a route without any of its own.
type Row struct {
	Route               string `json:"route"`
	Server              string `json:"server"`
	AuthorizationPolicy string `json:"authorizationPolicy,omitempty"`
	ServerAuthorization string `json:"serverAuthorization,omitempty"`
	// BuiltIn is the grant of a default policy, an access policy or for probes.
	BuiltIn string `json:"builtIn,omitempty"`
	// Undeclared says that no container declares the port.
	Undeclared bool `json:"undeclared,omitempty"`
}

// plain says whether Linkerd's own table could have the row.
func (r Row) plain() bool { return r.AuthorizationPolicy+r.ServerAuthorization != "" && !r.Undeclared }

// Rows are the grants at every port of the pods, sorted by Server, route and
// authorization; those of pods that are alike are one.
func Rows(judge oracle.Oracle, pods []*corev1.Pod) []Row {
	seen := map[Row]bool{}
	for _, pod := range pods {
		for port, undeclared := range ports(judge.World, pod) {
			for _, row := range rowsOf(judge.Resolve(pod, port)) {
				row.Undeclared = undeclared
				seen[row] = true
			}
		}
	}
	rows := make([]Row, 0, len(seen))
	for row := range seen {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Route, b.Route), cmp.Compare(a.AuthorizationPolicy, b.AuthorizationPolicy),
			cmp.Compare(a.ServerAuthorization, b.ServerAuthorization), cmp.Compare(a.BuiltIn, b.BuiltIn))
	})
	return rows
}

// ports are those that the pod declares, and those that Servers of its namespace
// give by number, which are undeclared then.
func ports(world oracle.World, pod *corev1.Pod) map[uint16]bool {
	all := map[uint16]bool{}
	for _, server := range world.Servers {
		if number := server.Spec.Port.IntVal; server.Namespace == pod.Namespace && number > 0 {
			all[uint16(number)] = true
		}
	}
	for _, port := range oracle.Ports(pod) {
		all[uint16(port.ContainerPort)] = false
	}
	return all
}

func rowsOf(p oracle.Policy) []Row {
	if p.Unpoliced {
		return nil
	}
	server := p.Server.Name
	if p.Server.Kind == "default" {
		server = "default:" + server
	}
	var rows []Row
	for _, grant := range p.Grants {
		if !local(grant.Label) {
			rows = append(rows, Row{Route: AllRoutes, Server: server}.by(grant.Label))
		}
	}
	if len(rows) == 0 {
		rows = append(rows, Row{Route: AllRoutes, Server: server, BuiltIn: "default/" + string(api.Deny)})
	}
	for _, route := range p.Routes {
		if route.Any {
			continue
		}
		name := routeName(route.Label)
		for _, grant := range route.Grants {
			rows = append(rows, Row{Route: name, Server: server}.by(grant.Label))
		}
		if len(route.Grants) == 0 {
			rows = append(rows, Row{Route: name, Server: server})
		}
	}
	return rows
}

// local is the grant that proxies add everywhere (H-20).
func local(l oracle.Label) bool { return l == oracle.Localhost().Label }

// by puts the authorization into its column.
func (r Row) by(l oracle.Label) Row {
	switch l.Kind {
	case "authorizationpolicy":
		r.AuthorizationPolicy = l.Name
	case "serverauthorization":
		r.ServerAuthorization = l.Name
	default:
		r.BuiltIn = l.String()
	}
	return r
}

// routeName is the name alone for the kind that Linkerd's table knows.
func routeName(l oracle.Label) string {
	switch {
	case l.Group == api.Group && l.Kind == api.HTTPRouteKind, l.Group == "":
		return l.Name
	case l.Kind == api.HTTPRouteKind:
		return fmt.Sprintf("%s (%s.%s)", l.Name, l.Kind, l.Group)
	default:
		return fmt.Sprintf("%s (%s)", l.Name, l.Kind)
	}
}

// Write prints the rows in Linkerd's columns. Wide adds a column for what is built
// in, and the rows that have nothing else.
func Write(w io.Writer, rows []Row, wide bool) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(out, "ROUTE\tSERVER\tAUTHORIZATION_POLICY\tSERVER_AUTHORIZATION")
	if wide {
		fmt.Fprint(out, "\tBUILT_IN\tPORT")
	}
	fmt.Fprintln(out)
	for _, r := range rows {
		if !wide && !r.plain() {
			continue
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s", r.Route, r.Server, r.AuthorizationPolicy, r.ServerAuthorization)
		if wide {
			port := "declared"
			if r.Undeclared {
				port = "undeclared"
			}
			fmt.Fprintf(out, "\t%s\t%s", r.BuiltIn, port)
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}
