package authz

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exposition is what voting's proxy says, with the counters of one moment.
func exposition(admin, voted, failed, denied string) *strings.Reader {
	return strings.NewReader(`
# TYPE response_total counter
response_total{direction="inbound",srv_kind="default",srv_name="all-unauthenticated",route_kind="default",route_name="default",authz_kind="default",authz_name="all-unauthenticated",classification="success"} ` + admin + `
response_total{direction="inbound",srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="voting-grpc",classification="success"} ` + voted + `
response_total{direction="inbound",srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="voting-grpc",classification="failure"} ` + failed + `
response_total{direction="outbound",classification="success"} 900
# TYPE inbound_http_authz_deny_total counter
inbound_http_authz_deny_total{srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default"} ` + denied + `
# TYPE response_latency_ms histogram
response_latency_ms_bucket{direction="inbound",srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="voting-grpc",le="1"} ` + voted + `
response_latency_ms_bucket{direction="inbound",srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="voting-grpc",le="+Inf"} ` + voted + `
response_latency_ms_sum{direction="inbound",srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="voting-grpc"} 1
response_latency_ms_count{direction="inbound",srv_kind="server",srv_name="voting-grpc",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="voting-grpc"} ` + voted + `
`)
}

const pod = "emojivoto/voting"

var start = time.Unix(1_000, 0)

func storeWith(t *testing.T, scrapes ...*strings.Reader) *Store {
	t.Helper()
	s := NewStore(MaxWindow)
	for i, scrape := range scrapes {
		if err := s.Add(pod, start.Add(time.Duration(i)*10*time.Second), scrape); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// V-01 to V-07, V-11.
func TestTableOfTheWalkThrough(t *testing.T) {
	for _, test := range []struct {
		name    string
		scrapes []*strings.Reader
		want    string
	}{
		{
			name:    "with the Server alone every request is unauthorized",
			scrapes: []*strings.Reader{exposition("1", "0", "0", "0"), exposition("3", "0", "0", "20")},
			want: `ROUTE    SERVER                       AUTHORIZATION                    UNAUTHORIZED  SUCCESS  RPS     LATENCY_P50  LATENCY_P95  LATENCY_P99
default  default:all-unauthenticated  default/all-unauthenticated      0.0rps        100.00%  0.1rps  0ms          0ms          0ms
default  voting-grpc                                                   1.0rps        0.00%    0.0rps  0ms          0ms          0ms
default  voting-grpc                  serverauthorization/voting-grpc  -             -        -       -            -            -
`,
		},
		{
			name:    "after the grant the denials fade and doughnuts keep success below 100 %",
			scrapes: []*strings.Reader{exposition("3", "0", "0", "20"), exposition("5", "16", "4", "20")},
			want: `ROUTE    SERVER                       AUTHORIZATION                    UNAUTHORIZED  SUCCESS  RPS     LATENCY_P50  LATENCY_P95  LATENCY_P99
default  default:all-unauthenticated  default/all-unauthenticated      0.0rps        100.00%  0.1rps  0ms          0ms          0ms
default  voting-grpc                  serverauthorization/voting-grpc  0.0rps        80.00%   1.0rps  0ms          1ms          1ms
`,
		},
		{
			name:    "a restarted proxy counts from zero",
			scrapes: []*strings.Reader{exposition("50", "0", "0", "90"), exposition("2", "0", "0", "0")},
			want: `ROUTE    SERVER                       AUTHORIZATION                    UNAUTHORIZED  SUCCESS  RPS     LATENCY_P50  LATENCY_P95  LATENCY_P99
default  default:all-unauthenticated  default/all-unauthenticated      0.0rps        100.00%  0.1rps  0ms          0ms          0ms
default  voting-grpc                  serverauthorization/voting-grpc  -             -        -       -            -            -
`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			answer := storeWith(t, test.scrapes...).Table([]string{pod}, start.Add(10*time.Second), 20*time.Second)
			if err := answer.Write(&out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

// V-08: what Linkerd's own table leaves out has a table of its own, and the first
// one stays as it is.
func TestWhatLinkerdLeavesOutHasATableOfItsOwn(t *testing.T) {
	counters := func(n string) *strings.Reader {
		return strings.NewReader(strings.ReplaceAll(`
# TYPE inbound_http_authz_allow_total counter
inbound_http_authz_allow_total{srv_kind="server",srv_name="web",route_kind="default",route_name="default",authz_kind="default",authz_name="audit",client_id="a"} N
inbound_http_authz_allow_total{srv_kind="server",srv_name="web",route_kind="default",route_name="default",authz_kind="default",authz_name="audit",client_id="b"} N
inbound_http_authz_allow_total{srv_kind="server",srv_name="web",route_kind="default",route_name="default",authz_kind="serverauthorization",authz_name="web"} N
# TYPE inbound_http_route_not_found_total counter
inbound_http_route_not_found_total{srv_kind="server",srv_name="web"} N
# TYPE inbound_http_local_ratelimit_total counter
inbound_http_local_ratelimit_total{srv_kind="server",srv_name="web",route_kind="HTTPRoute",route_name="api",ratelimit_kind="HTTPLocalRateLimitPolicy",ratelimit_name="five",ratelimit_scope="identity"} N
# TYPE inbound_tcp_authz_allow_total counter
inbound_tcp_authz_allow_total{srv_kind="default",srv_name="all-unauthenticated",authz_kind="default",authz_name="all-unauthenticated"} N
# TYPE inbound_tcp_authz_deny_total counter
inbound_tcp_authz_deny_total{srv_kind="server",srv_name="db"} N
# TYPE inbound_tcp_authz_terminate_total counter
inbound_tcp_authz_terminate_total{srv_kind="server",srv_name="idle"} 7
inbound_tcp_authz_terminate_total{srv_kind="server",srv_name="db"} N
`, "N", n))
	}
	answer := storeWith(t, counters("0"), counters("10")).Table([]string{pod}, start.Add(10*time.Second), 20*time.Second)
	var out strings.Builder
	if err := answer.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `ROUTE  SERVER  AUTHORIZATION  UNAUTHORIZED  SUCCESS  RPS  LATENCY_P50  LATENCY_P95  LATENCY_P99

OUTCOME         SERVER                       ROUTE    BY                                        COUNT  RATE
TCP denied      db                           -        -                                         10     0.5/s
TCP terminated  db                           -        -                                         10     0.5/s
TCP allowed     default:all-unauthenticated  -        default/all-unauthenticated               10     0.5/s
audited         web                          default  default/audit                             20     1.0/s
no route        web                          -        -                                         10     0.5/s
rate limited    web                          api      HTTPLocalRateLimitPolicy/five (identity)  10     0.5/s
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// V-02, V-10.
func TestWhatLiesBeforeTheWindowDoesNotCount(t *testing.T) {
	s := storeWith(t, exposition("0", "0", "0", "0"), exposition("0", "0", "0", "99"), exposition("0", "0", "0", "99"))
	answer := s.Table([]string{pod}, start.Add(20*time.Second), 5*time.Second)
	for _, row := range answer.Rows {
		if row.Unauthorized != 0 {
			t.Errorf("row %+v counts denials from before the window", row)
		}
	}
}

func TestAPodThatCannotBeReadIsNamed(t *testing.T) {
	s := storeWith(t, exposition("0", "0", "0", "0"))
	s.Fail(pod, errors.New("denied by policy"))
	var out strings.Builder
	if err := s.Table([]string{pod, "emojivoto/new"}, start, time.Minute).Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{pod + " could not be read: denied by policy", "emojivoto/new could not be read: not scraped yet"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}
}

// V-09: what the table shows is in JSON under names of its own.
func TestTheAnswerAsJSONHasTheFieldsOfTheTable(t *testing.T) {
	answer := storeWith(t, exposition("1", "0", "0", "0"), exposition("3", "16", "4", "20")).Table([]string{pod}, start.Add(10*time.Second), 20*time.Second)
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Window string
		Rows   []map[string]any
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"route": "default", "server": "default:all-unauthenticated", "authorization": "default/all-unauthenticated", "unauthorized": 0.0, "success": 1.0, "rps": 0.1,
			"latency_ms_p50": 0.0, "latency_ms_p95": 0.0, "latency_ms_p99": 0.0},
		{"route": "default", "server": "voting-grpc", "authorization": "", "unauthorized": 1.0, "success": 0.0, "rps": 0.0,
			"latency_ms_p50": 0.0, "latency_ms_p95": 0.0, "latency_ms_p99": 0.0},
		{"route": "default", "server": "voting-grpc", "authorization": "serverauthorization/voting-grpc", "unauthorized": 0.0, "success": 0.8, "rps": 1.0,
			"latency_ms_p50": 0.5, "latency_ms_p95": 0.95, "latency_ms_p99": 0.99},
	}
	if diff := cmp.Diff(want, read.Rows); diff != "" || read.Window != "20s" {
		t.Errorf("window %s: -want +got\n%s", read.Window, diff)
	}
}
