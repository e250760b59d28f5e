package explain

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Matrix is who reaches what.
type Matrix struct {
	Dialect string   `json:"dialect"`
	Clients []string `json:"clients"`
	Rows    []Row    `json:"rows"`
	// Live says that clients have called a cluster; cells about which none did
	// are marked.
	Live bool `json:"live,omitempty"`
	// NotConsidered are kinds of objects that were read and play no part.
	NotConsidered []NotConsidered `json:"notConsidered,omitempty"`
	// Misreferences are references that name nothing among what was read.
	Misreferences []string `json:"misreferences,omitempty"`
}

// Row is one request at one port of a workload, with a cell for each client.
type Row struct {
	Workload string `json:"workload"`
	Port     uint16 `json:"port"`
	PortName string `json:"portName,omitempty"`
	Server   string `json:"server"`
	Request  string `json:"request"`
	Cells    []Cell `json:"cells"`
	// Asked is the request that all cells are about.
	Asked oracle.Request `json:"-"`
}

// Cell is what becomes of one client's request.
type Cell struct {
	Client        string         `json:"client"`
	Allowed       bool           `json:"allowed"`
	Outcome       oracle.Outcome `json:"outcome"`
	Authorization string         `json:"authorization,omitempty"`
	// Live is what the client got when it really called; nil when it did not.
	Live *Observed `json:"live,omitempty"`
	// Verdict is all that is known of the cell.
	Verdict oracle.Verdict `json:"-"`
}

// Differences counts the cells in which the cluster does something else than the
// rules say.
func (m Matrix) Differences() int {
	n := 0
	for _, row := range m.Rows {
		for _, cell := range row.Cells {
			if cell.Live.Differs() {
				n++
			}
		}
	}
	return n
}

// Clients are those of a matrix when nobody names any: every ServiceAccount that
// was seen, and somebody without a mesh inside the cluster's networks.
func Clients(set *objects.Set, settings oracle.Settings) ([]Client, error) {
	var clients []Client
	for _, account := range set.Accounts {
		client, err := ParseClient(account.String(), settings)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	unmeshed, err := ParseClient("unmeshed", settings)
	return append(clients, unmeshed), err
}

// NewMatrix asks about every port of every workload for every client.
func NewMatrix(o oracle.Oracle, set *objects.Set, clients []Client) Matrix {
	m := Matrix{Dialect: o.Dialect.String(), Rows: []Row{}, NotConsidered: Others(set), Misreferences: Misreferences(set)}
	for _, c := range clients {
		m.Clients = append(m.Clients, c.Name)
	}
	for _, w := range set.Workloads {
		for _, port := range oracle.Ports(w.Pod) {
			policy := o.Resolve(w.Pod, uint16(port.ContainerPort))
			for _, request := range Requests(policy) {
				row := Row{Workload: w.String(), Port: policy.Port, PortName: port.Name, Server: serverOf(policy), Request: Describe(request), Asked: request}
				for _, c := range clients {
					v := o.Decide(policy, c.Client, request)
					row.Cells = append(row.Cells, Cell{Client: c.Name, Allowed: v.Allowed(), Outcome: v.Outcome, Authorization: v.Authorization.String(), Verdict: v})
				}
				m.Rows = append(m.Rows, row)
			}
		}
	}
	return m
}

func serverOf(p oracle.Policy) string {
	if p.Unpoliced {
		return "none"
	}
	return p.Server.String()
}

// otherPath is one that no route is likely to name.
const otherPath = "/no-such-route"

// Requests are those that the policy may tell apart: the natural one, and where
// somebody has written routes one for each of their matches.
func Requests(p oracle.Policy) []oracle.Request {
	natural := Natural(p.Protocol)
	var out []oracle.Request
	add := func(r oracle.Request) {
		if !slices.ContainsFunc(out, func(known oracle.Request) bool { return Describe(known) == Describe(r) }) {
			out = append(out, r)
		}
	}
	written := false
	for _, route := range p.Routes {
		host := ""
		if len(route.Hosts) > 0 {
			host = strings.Replace(string(route.Hosts[0]), "*", "any", 1)
		}
		for _, rule := range route.HTTP {
			written = true
			for _, match := range rule.Matches {
				r := natural
				r.Host, r.Headers = host, map[string]string{}
				if match.Path != nil && match.Path.Value != nil && (match.Path.Type == nil || *match.Path.Type != api.MatchRegularExpression) {
					r.Path = *match.Path.Value
				}
				if match.Method != nil {
					r.Method = string(*match.Method)
				}
				for _, h := range match.Headers {
					r.Headers[h.Name] = h.Value
				}
				for i, q := range match.QueryParams {
					r.Path += map[bool]string{true: "?", false: "&"}[i == 0] + q.Name + "=" + q.Value
				}
				add(r)
			}
		}
		for _, rule := range route.GRPC {
			written = true
			for _, match := range rule.Matches {
				r := natural
				r.Host, r.Headers = host, map[string]string{}
				service, method := "any.Service", "Call"
				if match.Method != nil && match.Method.Service != nil {
					service = *match.Method.Service
				}
				if match.Method != nil && match.Method.Method != nil {
					method = *match.Method.Method
				}
				r.Path = "/" + service + "/" + method
				for _, h := range match.Headers {
					r.Headers[h.Name] = h.Value
				}
				add(r)
			}
		}
		if p.Port != api.AdminPort {
			for _, path := range route.Probe {
				r := natural
				r.Path = path
				add(r)
			}
		}
	}
	if written && natural.Protocol != oracle.GRPC {
		natural.Path = otherPath
	}
	add(natural)
	return out
}

// word is a cell for people.
func (c Cell) word(live bool) string {
	switch {
	case live && c.Live == nil:
		return c.verdict() + " (not called)"
	case live && c.Live.Unsure:
		return c.verdict() + " (unsure: " + c.Live.Outcome + ")"
	case live && !c.Live.Agrees:
		return c.verdict() + " != " + c.Live.Outcome
	}
	return c.verdict()
}

func (c Cell) verdict() string {
	if c.Allowed && c.Outcome == oracle.Delivered {
		return "yes"
	}
	if c.Allowed {
		return "yes, " + string(c.Outcome)
	}
	return string(c.Outcome)
}

func (r Row) port() string {
	if r.PortName == "" {
		return fmt.Sprint(r.Port)
	}
	return fmt.Sprintf("%s %d", r.PortName, r.Port)
}

// WriteTable writes the matrix with a line for each row.
func (m Matrix) WriteTable(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "WORKLOAD\tPORT\tSERVER\tREQUEST\t%s\n", strings.Join(m.Clients, "\t"))
	for _, row := range m.Rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", row.Workload, row.port(), row.Server, row.Request, strings.Join(m.words(row), "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	writeRemarks(out, m.Misreferences, m.NotConsidered)
	return nil
}

// WriteMarkdown writes the matrix as a table of Markdown.
func (m Matrix) WriteMarkdown(out io.Writer) error {
	fmt.Fprintf(out, "| workload | port | server | request | %s |\n", strings.Join(m.Clients, " | "))
	fmt.Fprintf(out, "|%s\n", strings.Repeat(" --- |", 4+len(m.Clients)))
	for _, row := range m.Rows {
		if _, err := fmt.Fprintf(out, "| %s | %s | %s | `%s` | %s |\n", row.Workload, row.port(), row.Server, strings.ReplaceAll(row.Request, "|", "\\|"), strings.Join(m.words(row), " | ")); err != nil {
			return err
		}
	}
	return nil
}

func (m Matrix) words(row Row) []string {
	var out []string
	for _, cell := range row.Cells {
		out = append(out, cell.word(m.Live))
	}
	return out
}
