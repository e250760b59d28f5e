package generate

import (
	"maps"
	"slices"
	"strconv"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/scenarios"
)

// parts are the workloads, clients and calls of a scenario.
type parts struct {
	annotations map[string]string
	workloads   []scenarios.Workload
	clients     []scenarios.Client
	// matrices are what is asked after every step.
	matrices []scenarios.Matrix
}

func (r random) parts() parts {
	var p parts
	b := &builder{random: r}
	if policy := b.defaultPolicy(); policy != "" && r.chance(40) {
		p.annotations = map[string]string{api.DefaultPolicyAnnotation: policy}
	}
	p.workloads = append(p.workloads, b.workload("app"))
	if r.chance(25) {
		p.workloads = append(p.workloads, b.workload("peer"))
	}
	p.clients = b.clients()
	p.matrices = b.matrices(p)
	return p
}

func (b *builder) workload(name string) scenarios.Workload {
	w := scenarios.Workload{Name: name, Kind: scenarios.Echo, Labels: map[string]string{}, Annotations: map[string]string{}}
	if b.chance(60) {
		w.Labels[tierLabel] = pick(b.random, tiers...)
	}
	if policy := b.defaultPolicy(); policy != "" {
		w.Annotations[api.DefaultPolicyAnnotation] = policy
	}
	if b.chance(15) {
		w.Annotations[api.OpaquePortsAnnotation] = pick(b.random, "9090", "8080", "9000-9100", "tcp,9091")
	}
	if b.chance(12) {
		w.Annotations[api.RequireIdentityAnnotation] = pick(b.random, "8080", "8081,9090", "1-65535")
	}
	if b.chance(3) {
		w.Annotations[api.SkipInboundPortsAnnotation] = "9090"
	}
	if name == "app" && b.chance(12) {
		w.Replicas = 2
	}
	// Two containers of a pod share a port's name: both ports have it.
	if b.chance(25) {
		w.Ports = append(w.Ports, pick(b.random,
			scenarios.Declaration{Name: "http", Port: 9090, On: scenarios.Sidecar},
			scenarios.Declaration{Name: "http", Port: 8081, On: scenarios.Sidecar},
			scenarios.Declaration{Name: "grpc", Port: 8080, On: scenarios.Sidecar},
			scenarios.Declaration{Name: "tcp", Port: 8080, On: scenarios.Sidecar},
			scenarios.Declaration{Name: "tcp", Port: 8080, On: scenarios.Sidecar, Protocol: scenarios.PortUDP}))
	}
	return w
}

// clients are a few different ones, with and without identity.
func (b *builder) clients() []scenarios.Client {
	pool := clientPool()
	taken := map[string]bool{}
	for want := b.between(2, 4); len(taken) < want; {
		taken[choose(b.random, pool...).Name] = true
	}
	var out []scenarios.Client
	for _, one := range pool {
		if taken[one.value.Name] {
			out = append(out, one.value)
		}
	}
	return out
}

// matrices ask every client at some ports, and on one of them for several paths.
func (b *builder) matrices(p parts) []scenarios.Matrix {
	names := make([]string, len(p.clients))
	for i, c := range p.clients {
		names[i] = c.Name
	}
	first := scenarios.Matrix{Protocols: []scenarios.Protocol{scenarios.HTTP1}}
	first.Rows = append(first.Rows, scenarios.Row{Target: "app:http", Clients: names})
	if b.chance(25) {
		first.Rows[0].Protocols = []scenarios.Protocol{scenarios.HTTP1, scenarios.HTTP2}
	}
	if b.chance(45) {
		first.Rows = append(first.Rows, scenarios.Row{Target: "app:grpc", Protocols: []scenarios.Protocol{scenarios.GRPC}, Clients: names})
	}
	if plain := plainSpoken(p.clients); b.chance(45) && len(plain) > 0 {
		first.Rows = append(first.Rows, scenarios.Row{Target: "app:tcp", Protocols: []scenarios.Protocol{scenarios.TCP}, Clients: plain})
	}
	if len(p.workloads) > 1 {
		first.Rows = append(first.Rows, scenarios.Row{Target: "peer:" + strconv.Itoa(8080), Clients: names})
	}
	out := []scenarios.Matrix{first}
	if b.chance(60) {
		out = append(out, scenarios.Matrix{Protocols: []scenarios.Protocol{scenarios.HTTP1}, Method: pick(b.random, "GET", "GET", "POST"), Path: pick(b.random, paths[1:]...),
			Rows: []scenarios.Row{{Target: "app:http", Clients: names}}})
	}
	return out
}

// plainSpoken are the clients that do not speak TLS themselves: where a proxy does
// not end it, an application that waits for a line would wait for ever.
func plainSpoken(clients []scenarios.Client) []string {
	var names []string
	for _, c := range clients {
		if c.Kind == scenarios.Meshed || c.Kind == scenarios.Unmeshed {
			names = append(names, c.Name)
		}
	}
	return names
}

// claims are those of a step in which everybody is asked.
func (p parts) claims() []scenarios.Claim {
	return p.asking(func(*scenarios.Matrix, *scenarios.Row, string) bool { return true })
}

// asking are claims of a step about some of the cells.
func (p parts) asking(whether func(*scenarios.Matrix, *scenarios.Row, string) bool) []scenarios.Claim {
	var out []scenarios.Claim
	for i := range p.matrices {
		m := p.matrices[i]
		m.Rows = nil
		for _, row := range p.matrices[i].Rows {
			row.Clients = slices.DeleteFunc(slices.Clone(row.Clients), func(client string) bool { return !whether(&m, &row, client) })
			if len(row.Clients) > 0 {
				m.Rows = append(m.Rows, row)
			}
		}
		name := "everybody gets what the rules say"
		if m.Path != "" {
			name = "so on " + m.Method + " " + m.Path
		}
		if len(m.Rows) > 0 {
			out = append(out, scenarios.Claim{Name: name, Matrix: &m})
		}
	}
	return out
}

// after are the claims of a step by which some answers have become others: all who
// got those are asked, those that tell something, and of the rest so many of a
// hundred.
func (b *builder) after(p parts, before, now []Answer, tell map[place]bool) []scenarios.Claim {
	differs := maps.Clone(tell)
	was := map[cell]bool{}
	for i := range before {
		was[before[i].cell()] = before[i].Verdict.Allowed()
	}
	for i := range now {
		if at := now[i].cell(); was[at] != now[i].Verdict.Allowed() {
			differs[at.place()] = true
		}
	}
	claims := p.asking(func(m *scenarios.Matrix, row *scenarios.Row, client string) bool {
		return differs[place{client, row.Target, m.Path}] || b.chance(unturnedShare)
	})
	if len(claims) == 0 {
		return p.claims()
	}
	return claims
}

// unturnedShare is how many of a hundred are asked of those for whom, by the
// rules, an edit changes nothing.
const unturnedShare = 40

// calls are those that the claims of every step make.
func (p parts) calls() []*scenarios.Call {
	var out []*scenarios.Call
	for i := range p.matrices {
		out = append(out, p.matrices[i].Calls()...)
	}
	return out
}
