package calibrate_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent"
	"github.com/meshproof/meshproof/internal/calibrate"
)

// envAgent makes this test's program be a client's agent.
const envAgent = "MESHPROOF_TEST_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(envAgent) != "" {
		if agent.Main(context.Background(), []string{"-listen", "127.0.0.1:0"}) != nil {
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// start runs a client in a process of its own.
func start(tb testing.TB) *calibrate.Client {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envAgent+"=1")
	client, end, err := calibrate.Spawn(context.Background(), cmd)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(end)
	return client
}

func TestAClientMakesTheCallsOfAllItsStreams(t *testing.T) {
	client := start(t)
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.GRPC} {
		kept, err := client.Carry(t.Context(), calibrate.Load{Streams: 20, Rate: 10, Connection: clients.Reused, Protocol: protocol}, 500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if kept.Due != 100 || kept.Wrong != 0 || kept.Missed == kept.Due || kept.Called != kept.Due-kept.Missed {
			t.Errorf("%s: %+v", protocol, kept)
		}
	}
}

// The agent is to make 2,000 streams of ten calls a second, or one of 20,000. The
// share that it missed says whether it did; CPU per call is what holds on a machine
// that is busy with something else, too.
func BenchmarkAgent(b *testing.B) {
	for _, l := range []calibrate.Load{
		{Streams: 1, Rate: 20_000, Connection: clients.Reused},
		{Streams: 20, Rate: 1_000, Connection: clients.Reused},
		{Streams: 200, Rate: 100, Connection: clients.Reused},
		{Streams: 2_000, Rate: 10, Connection: clients.Reused},
		{Streams: 20, Rate: 1_000, Connection: clients.Reused, Protocol: clients.GRPC},
		{Streams: 2_000, Rate: 10, Connection: clients.Reused, Protocol: clients.GRPC},
		{Streams: 2_000, Rate: 1, Connection: clients.Fresh},
		{Streams: 1, Rate: 2_000, Connection: clients.Fresh},
	} {
		b.Run(strconv.Itoa(l.Streams)+"x"+strconv.Itoa(l.Rate)+"-"+string(l.Connection)+string(l.Protocol), func(b *testing.B) {
			client := start(b)
			due, missed, late, wrong := int64(0), int64(0), int64(0), int64(0)
			cpu, target := time.Duration(0), time.Duration(0)
			for b.Loop() {
				kept, err := client.Carry(b.Context(), l, 2*time.Second)
				if err != nil {
					b.Fatal(err)
				}
				due, missed, late, wrong = due+kept.Due, missed+kept.Missed, late+kept.Late, wrong+kept.Wrong
				cpu, target = kept.CPU, kept.TargetCPU
			}
			b.ReportMetric(float64(due-missed)/float64(due)*float64(l.Calls()), "calls/s")
			b.ReportMetric(100*float64(missed)/float64(due), "%missed")
			b.ReportMetric(100*float64(late)/float64(due), "%late")
			b.ReportMetric(float64(cpu.Nanoseconds())/1000, "cpu-us/call")
			b.ReportMetric(float64(target.Nanoseconds())/1000, "target-us/call")
			b.ReportMetric(float64(wrong), "wrong")
		})
	}
}
