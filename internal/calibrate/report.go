package calibrate

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// Report is what a machine can do.
type Report struct {
	// Floor in nanoseconds, and what it comes from.
	Floor time.Duration `json:"floor"`
	Noise Noise         `json:"noise"`
	// Clients are the greatest loads that a client kept, of each kind.
	Clients []Found `json:"clients,omitempty"`
	// Limit is what the client met first, of the loads in order; Nothing when it kept
	// all that it was asked for.
	Limit Limit `json:"limit,omitempty"`
}

// loads are the kinds of load of which the greatest is looked for.
var loads = []struct {
	many bool
	kind Load
}{
	{false, Load{Connection: clients.Reused}},
	{true, Load{Connection: clients.Reused}},
	{true, Load{Connection: clients.Fresh}},
	{true, Load{Connection: clients.Reused, Protocol: clients.GRPC}},
}

// Measure finds the greatest load of each kind that a client keeps, taking so long
// for each attempt.
func (r *Report) Measure(ctx context.Context, client *Client, long time.Duration) error {
	r.Limit = Nothing
	for _, one := range loads {
		most, err := client.Most(ctx, one.many, one.kind, long)
		if err != nil {
			return err
		}
		r.Clients = append(r.Clients, most)
		if most.Beyond != nil && r.Limit == Nothing {
			r.Limit = most.Beyond.Limit()
		}
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
	for i := range r.Clients {
		fmt.Fprintln(w, r.Clients[i].line())
	}
	if len(r.Clients) > 0 {
		fmt.Fprintln(w, r.limit())
	}
	_, err := fmt.Fprintf(w, "(%d samples)\n", r.Noise.N)
	return err
}

// line says what was kept, and what kept the next load from it.
func (f *Found) line() string {
	each := func(k *Kept) string {
		return fmt.Sprintf("%s of a processor each (the target %s)", micro(k.CPU), micro(k.TargetCPU))
	}
	kind := fmt.Sprintf("over %s on %s connections", f.Protocol, f.Connection)
	if f.Streams == 0 {
		return fmt.Sprintf("a client keeps not even %d calls a second %s, %s: the limit is %s", f.Beyond.Calls(), kind, each(f.Beyond), f.Beyond.Limit())
	}
	line := fmt.Sprintf("a client keeps %d calls a second in %d streams %s, %s", f.Calls(), f.Streams, kind, each(&f.Kept))
	if f.Beyond == nil {
		return line + "; more was not tried"
	}
	return fmt.Sprintf("%s; %d were too many for %s", line, f.Beyond.Calls(), f.Beyond.Limit())
}

// limit says in one line whether the client is what bounds a load, and how many calls
// this machine's processors bear when they have nothing else to do.
func (r *Report) limit() string {
	one := r.Clients[0]
	for _, other := range r.Clients {
		if other.Beyond != nil {
			one = other
			break
		}
	}
	k := &one.Kept
	if one.Beyond != nil {
		k = one.Beyond
	}
	line := fmt.Sprintf("limit: %s, with %s of a processor for each call of the client's and %s of the target's", r.Limit, micro(k.CPU), micro(k.TargetCPU))
	if both := k.CPU + k.TargetCPU; both > 0 {
		line += fmt.Sprintf("; %d idle processors bear about %d such calls a second at that cost", runtime.NumCPU(), int64(runtime.NumCPU())*int64(time.Second)/int64(both)/100*100)
	}
	return line
}

func micro(d time.Duration) string { return fmt.Sprintf("%.0f µs", float64(d.Nanoseconds())/1000) }
