package emojivoto_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/workloads/emojivoto"
)

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) string {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func TestTheRolesTakeTheirPortsFromTheEnvironmentAndStopWhenTold(t *testing.T) {
	emoji, voting, prom, page := freePort(t), freePort(t), freePort(t), freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	run := func(main func(context.Context, []string) error, env map[string]string) {
		for name, value := range env {
			t.Setenv(name, value)
		}
		go func() { ended <- main(ctx, nil) }()
		// Once all its ports are there, a role has read its environment.
		for name := range env {
			if strings.HasSuffix(name, "_PORT") {
				await(t, env[name])
			}
		}
	}
	run(emojivoto.EmojiMain, map[string]string{"GRPC_PORT": emoji, "PROM_PORT": freePort(t)})
	run(emojivoto.VotingMain, map[string]string{"GRPC_PORT": voting, "PROM_PORT": prom})
	run(emojivoto.WebMain, map[string]string{"WEB_PORT": page, "EMOJISVC_HOST": "127.0.0.1:" + emoji, "VOTINGSVC_HOST": "127.0.0.1:" + voting})
	base := "http://127.0.0.1:" + page
	if status, body, _ := get(t, base+"/api/vote?choice=:dog:"); status != 200 {
		t.Errorf("a vote gets %d %s", status, body)
	}
	get(t, base+"/api/vote?choice=:doughnut:")
	_, body, _ := get(t, "http://127.0.0.1:"+prom+"/metrics")
	for _, want := range []string{
		`grpc_server_handled_total{grpc_code="OK",grpc_method="VoteDog",grpc_service="emojivoto.v1.VotingService"} 1`,
		`grpc_server_handled_total{grpc_code="Unknown",grpc_method="VoteDoughnut",grpc_service="emojivoto.v1.VotingService"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	cancel()
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func await(t *testing.T, port string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			return
		}
	}
	t.Fatalf("nobody listens on port %s", port)
}

func TestARoleWithoutItsEnvironmentSaysWhatIsMissing(t *testing.T) {
	for name, row := range map[string]struct {
		main func(context.Context, []string) error
		set  map[string]string
		want string
	}{
		"emoji":                    {emojivoto.EmojiMain, nil, "GRPC_PORT"},
		"voting":                   {emojivoto.VotingMain, nil, "GRPC_PORT"},
		"web":                      {emojivoto.WebMain, map[string]string{"WEB_PORT": "1", "EMOJISVC_HOST": "a:1"}, "VOTINGSVC_HOST"},
		"vote-bot":                 {emojivoto.VoteBotMain, nil, "WEB_HOST"},
		"vote-bot with a bad rate": {emojivoto.VoteBotMain, map[string]string{"WEB_HOST": "a:1", "REQUEST_RATE": "fast"}, "REQUEST_RATE"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range row.set {
				t.Setenv(name, value)
			}
			if err := row.main(t.Context(), nil); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one that names %s", err, row.want)
			}
		})
	}
}
