package explain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Question is what one answer is about.
type Question struct {
	Workload objects.Workload
	Port     uint16
	PortName string
	Client   Client
	// Request is natural to the port's protocol when it is nil.
	Request *oracle.Request
}

// Answer is a verdict with what was asked; it is printed as JSON as it stands.
type Answer struct {
	Workload string `json:"workload"`
	Port     uint16 `json:"port"`
	PortName string `json:"portName,omitempty"`
	Client   string `json:"client"`
	Address  string `json:"address"`
	// AddressAssumed says that no address was given.
	AddressAssumed bool   `json:"addressAssumed,omitempty"`
	Identity       string `json:"identity,omitempty"`
	Request        string `json:"request"`
	Dialect        string `json:"dialect"`
	Allowed        bool   `json:"allowed"`
	oracle.Verdict
	// NotConsidered are kinds of objects that were read and play no part.
	NotConsidered []NotConsidered `json:"notConsidered,omitempty"`
	// Misreferences are references that name nothing among what was read.
	Misreferences []string `json:"misreferences,omitempty"`
	// Live is what a client got who really called; nil when none did.
	Live *Observed `json:"live,omitempty"`
}

// Observed is what became of a call on a cluster.
type Observed struct {
	// Outcome is what the client saw, in the words of clients.Kind, with the status.
	Outcome string `json:"outcome"`
	// Agrees says that it is what the verdict lets expect.
	Agrees bool `json:"agrees"`
	// Unsure says that what was seen proves neither that it agrees nor that it
	// does not; Agrees is then false.
	Unsure bool `json:"unsure,omitempty"`
}

// Differs reports whether it is proven that the cluster does something else than
// the rules say.
func (o *Observed) Differs() bool { return o != nil && !o.Agrees && !o.Unsure }

// text is the observation in a line.
func (o *Observed) text() string {
	switch {
	case o.Unsure:
		return o.Outcome + ", which proves nothing by itself"
	case o.Agrees:
		return o.Outcome + ", as the rules say"
	}
	return o.Outcome + ", WHICH DIFFERS"
}

// NotConsidered is one kind of objects that play no part.
type NotConsidered struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Why        string        `json:"why"`
	Count      int           `json:"count"`
	First      objects.Place `json:"first"`
}

// Ask has the oracle judge the question.
func Ask(o oracle.Oracle, set *objects.Set, q Question) Answer {
	policy := o.Resolve(q.Workload.Pod, q.Port)
	request := Natural(policy.Protocol)
	if q.Request != nil {
		request = *q.Request
	}
	verdict := o.Decide(policy, q.Client.Client, request)
	return Answer{
		Workload: q.Workload.String(), Port: q.Port, PortName: q.PortName, Client: q.Client.Name, Address: q.Client.Address.String(), AddressAssumed: q.Client.Assumed,
		Identity: q.Client.Identity, Request: Describe(request), Dialect: o.Dialect.String(), Allowed: verdict.Allowed(), Verdict: verdict, NotConsidered: Others(set), Misreferences: Misreferences(set),
	}
}

// Others counts the objects that play no part by their kinds, in the order of
// reading.
func Others(set *objects.Set) []NotConsidered {
	var kinds []NotConsidered
	for _, other := range set.Others {
		at := slices.IndexFunc(kinds, func(k NotConsidered) bool { return k.APIVersion == other.APIVersion && k.Kind == other.Kind })
		if at < 0 {
			at = len(kinds)
			kinds = append(kinds, NotConsidered{APIVersion: other.APIVersion, Kind: other.Kind, Why: other.Why, First: other.Place})
		}
		kinds[at].Count++
	}
	return kinds
}

// writeRemarks tells of references that name nothing, and of what was not
// considered, a line each.
func writeRemarks(out io.Writer, misreferences []string, kinds []NotConsidered) {
	for _, text := range misreferences {
		fmt.Fprintf(out, "note: %s\n", text)
	}
	for _, k := range kinds {
		fmt.Fprintf(out, "not considered: %d of %s %s (%s): %s\n", k.Count, k.APIVersion, k.Kind, k.First, k.Why)
	}
}

// WriteJSON writes anything with indents.
func WriteJSON(out io.Writer, what any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(what)
}

// WriteText writes the verdict and its chain.
func (a Answer) WriteText(out io.Writer) error {
	word := "denied"
	if a.Allowed {
		word = "allowed"
	}
	address := " at " + a.Address
	if a.AddressAssumed {
		address += " (assumed)"
	}
	port := fmt.Sprint(a.Port)
	if a.PortName != "" {
		port = fmt.Sprintf("%s (%d)", a.PortName, a.Port)
	}
	fmt.Fprintf(out, "%s: %s\n  %s%s asks %s, port %s: %s\n", word, a.outcome(), a.Client, address, a.Workload, port, a.Request)
	var parts []string
	for _, label := range []struct {
		what  string
		label oracle.Label
	}{{"server", a.Server}, {"route", a.Route}, {"authorization", a.Authorization}} {
		if label.label.Kind != "" {
			parts = append(parts, label.what+" "+label.label.String())
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(out, "  %s\n", strings.Join(parts, ", "))
	}
	if a.Live != nil {
		fmt.Fprintf(out, "  live: %s\n", a.Live.text())
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, step := range a.Steps {
		mark := "-"
		if step.Holds {
			mark = "+"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", mark, step.Topic, step.Rule, step.Text)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(a.NotConsidered)+len(a.Misreferences) > 0 {
		fmt.Fprintln(out)
		writeRemarks(out, a.Misreferences, a.NotConsidered)
	}
	return nil
}

// outcome is the verdict in words that say what the client sees.
func (a Answer) outcome() string {
	text := map[oracle.Outcome]string{
		oracle.Delivered: "delivered to the application", oracle.Unpoliced: "delivered, and no policy applies", oracle.Redirected: fmt.Sprintf("redirected with status %d", a.Status),
		oracle.Forbidden: "HTTP 403", oracle.PermissionDenied: "gRPC status 7 (PermissionDenied)", oracle.NotFound: "HTTP 404", oracle.GRPCNotFound: "gRPC status 5 (NotFound)",
		oracle.Closed: "the connection is closed without a byte", oracle.HandshakeFailed: "the TLS handshake fails", oracle.ProtocolError: "an error of the protocol", oracle.BadRequest: "HTTP 400",
	}[a.Outcome]
	if len(a.Limits) > 0 {
		text += ", unless limited"
	}
	return cmp.Or(text, string(a.Outcome))
}
