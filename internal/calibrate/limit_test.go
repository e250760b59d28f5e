package calibrate

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// tried is a load of 10,000 calls a second for two seconds that was not kept, whose
// calls took so many microseconds.
func tried(client, target, others time.Duration, edit func(*Kept)) Kept {
	const calls = 20_000
	k := Kept{Load: Load{Streams: 1, Rate: 10_000, Connection: clients.Reused, Protocol: clients.HTTP1}, Due: calls, Missed: calls / 10, Called: calls * 9 / 10,
		CPU: client * time.Microsecond, TargetCPU: target * time.Microsecond, Others: float64(others) * calls * float64(time.Microsecond)}
	if edit != nil {
		edit(&k)
	}
	return k
}

func TestTheLimitIsWhoUsedMostOfTheProcessors(t *testing.T) {
	rows := map[string]struct {
		kept Kept
		want Limit
	}{
		"all were made":                       {tried(90, 10, 0, func(k *Kept) { k.Missed = 0 }), Nothing},
		"the client used most":                {tried(90, 10, 20, nil), TheClient},
		"the target used most":                {tried(30, 60, 10, nil), TheTarget},
		"it answered wrongly":                 {tried(90, 10, 0, func(k *Kept) { k.Wrong = 1 }), TheTarget},
		"somebody else used most":             {tried(30, 20, 60, nil), SomethingElse},
		"the client was late with time spare": {tried(30, 60, 70, func(k *Kept) { k.Idle = 0.5 }), TheClient},
	}
	seen := map[Limit]bool{}
	for name, row := range rows {
		if got := row.kept.Limit(); got != row.want {
			t.Errorf("%s: the limit is %q, want %q", name, got, row.want)
		}
		seen[row.want] = true
	}
	for _, limit := range Limits() {
		if !seen[limit] {
			t.Errorf("no row has %q", limit)
		}
	}
}

func TestProcessorTimeIsSharedOutAmongThoseWhoUsedIt(t *testing.T) {
	k := Kept{Called: 1000}
	k.spent(used{client: time.Second, target: 2 * time.Second, machine: 100 * time.Second, idle: 50 * time.Second},
		used{client: 3 * time.Second, target: 3 * time.Second, machine: 110 * time.Second, idle: 51 * time.Second})
	if k.CPU != 2*time.Millisecond || k.TargetCPU != time.Millisecond || k.Others != float64(6*time.Second) || k.Idle != 0.1 {
		t.Errorf("%+v", k)
	}
	var before, after used
	if err := before.read(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); after.client <= before.client; {
		if err := after.read(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) > answerLimit {
			t.Fatalf("this process works, and uses nothing: %+v and %+v", before, after)
		}
	}
	if after.machine <= before.machine || after.idle < before.idle || after.idle > after.machine || after.client > after.machine {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestTheReportSaysInALineWhatTheLimitWas(t *testing.T) {
	beyond := tried(30, 10, 0, nil)
	first := Found{Kept: Kept{Load: Load{1, 5000, clients.Reused, clients.HTTP1}, CPU: 25 * time.Microsecond, TargetCPU: 9 * time.Microsecond}, Beyond: &beyond}
	full := Found{Kept: Kept{Load: Load{2000, 10, clients.Reused, clients.GRPC}, CPU: 40 * time.Microsecond, TargetCPU: 10 * time.Microsecond}}
	none := Found{Kept: Kept{Load: Load{Connection: clients.Fresh, Protocol: clients.HTTP1}}, Beyond: &beyond}
	for name, row := range map[string]struct {
		report Report
		want   []string
	}{
		"one was too many": {Report{Clients: []Found{full, first}, Limit: TheClient}, []string{
			"a client keeps 20000 calls a second in 2000 streams over grpc on reused connections, 40 µs of a processor each (the target 10 µs); more was not tried\n",
			"a client keeps 5000 calls a second in 1 streams over http1 on reused connections, 25 µs of a processor each (the target 9 µs); 10000 were too many for the client\n",
			"limit: the client, with 30 µs of a processor for each call of the client's and 10 µs of the target's; "}},
		"none was": {Report{Clients: []Found{full}, Limit: Nothing}, []string{"limit: nothing, with 40 µs of a processor for each call of the client's and 10 µs of the target's; "}},
		"all were": {Report{Clients: []Found{none}, Limit: TheClient}, []string{
			"a client keeps not even 10000 calls a second over http1 on fresh connections, 30 µs of a processor each (the target 10 µs): the limit is the client\n"}},
	} {
		var text strings.Builder
		if err := row.report.Text(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range row.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: %q is not in\n%s", name, want, text.String())
			}
		}
		if lines := strings.Split(text.String(), "\n"); !slices.ContainsFunc(lines, func(l string) bool {
			return strings.HasPrefix(l, "limit: ") && strings.Contains(l, " idle processors bear about ")
		}) {
			t.Errorf("%s: nothing is said of the %d processors", name, runtime.NumCPU())
		}
	}
}
