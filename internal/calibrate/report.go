package calibrate

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// Report is what a machine can do.
type Report struct {
	// Floor in nanoseconds, and what it comes from.
	Floor time.Duration `json:"floor"`
	Noise Noise         `json:"noise"`
	// Clients are the greatest loads that a client kept, of each kind.
	Clients []Kept `json:"clients,omitempty"`
}

// loads are the kinds of load of which the greatest is looked for.
var loads = []struct {
	many       bool
	connection clients.Connection
}{{false, clients.Reused}, {true, clients.Reused}, {true, clients.Fresh}}

// Measure finds the greatest load of each kind that a client keeps, taking so long
// for each attempt.
func (r *Report) Measure(ctx context.Context, client *Client, long time.Duration) error {
	for _, kind := range loads {
		most, err := client.Most(ctx, kind.many, kind.connection, long)
		if err != nil {
			return err
		}
		r.Clients = append(r.Clients, most)
	}
	return nil
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintf(w, "noise floor %s: two times that are closer than this cannot be told apart here\n", round(r.Floor))
	for _, one := range []struct {
		name   string
		spread Spread
	}{{"timer", r.Noise.Timer}, {"scheduling", r.Noise.Handoff}, {"round trip", r.Noise.RoundTrip}, {"whole call", r.Noise.Call}} {
		fmt.Fprintf(w, "  %-11s p50 %-8s p99 %-8s max %-8s\n", one.name, round(one.spread.P50), round(one.spread.P99), round(one.spread.Max))
	}
	for _, one := range r.Clients {
		if one.Streams == 0 {
			fmt.Fprintf(w, "a client keeps not even %d calls a second on %s connections\n", firstCalls, one.Connection)
			continue
		}
		more := ""
		if one.Calls()*2 > goalCalls {
			more = ", and more was not tried"
		}
		fmt.Fprintf(w, "a client keeps %d calls a second in %d streams on %s connections, %.0f µs of a processor each%s\n",
			one.Calls(), one.Streams, one.Connection, float64(one.CPU.Nanoseconds())/1000, more)
	}
	_, err := fmt.Fprintf(w, "(%d samples)\n", r.Noise.N)
	return err
}
