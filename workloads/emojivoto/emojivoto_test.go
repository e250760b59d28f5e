package emojivoto_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/meshproof/meshproof/workloads/emojivoto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheAPIHasOneRPCForEachOfTheHundredEmoji(t *testing.T) {
	all := emojivoto.All()
	if len(all) != 100 || all[0].Method() != "VotePoop" || all[99].Method() != "VoteFloppyDisk" {
		t.Fatalf("%d emoji from %s to %s", len(all), all[0].Method(), all[len(all)-1].Method())
	}
	for _, row := range []struct{ shortcode, method string }{
		{":point_up_2:", "VotePointUp2"}, {":100:", "Vote100"}, {":jack_o_lantern:", "VoteJackOLantern"}, {emojivoto.Doughnut, "VoteDoughnut"}, {":dog:", "VoteDog"},
	} {
		emoji, ok := emojivoto.Find(row.shortcode)
		if !ok || emoji.Method() != row.method {
			t.Errorf("%s is voted for by %q, want %q", row.shortcode, emoji.Method(), row.method)
		}
	}
	var want, got []string
	characters := map[string]string{}
	for _, emoji := range all {
		want = append(want, emoji.Method())
		if emoji.Unicode == "" || characters[emoji.Unicode] != "" {
			t.Errorf("%s shows %q, as %s does", emoji.Name, emoji.Unicode, characters[emoji.Unicode])
		}
		characters[emoji.Unicode] = emoji.Name
	}
	service := emojivoto.VotingFile.Services().Get(0)
	for i := range service.Methods().Len() {
		got = append(got, string(service.Methods().Get(i).Name()))
	}
	if want = append(want, "Results"); !slices.Equal(got, want) || service.FullName() != "emojivoto.v1.VotingService" {
		t.Errorf("%s has %v, want %v", service.FullName(), got, want)
	}
}

// backend serves one of the two services on loopback.
func backend(t *testing.T, register func(*grpc.Server)) string {
	server := grpc.NewServer()
	register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return listener.Addr().String()
}

// application runs emoji, voting and web and returns web's URL.
func application(t *testing.T) string {
	emoji := backend(t, emojivoto.RegisterEmoji)
	voting := backend(t, func(s *grpc.Server) { emojivoto.RegisterVoting(s, &emojivoto.Poll{}) })
	return web(t, emoji, voting)
}

func web(t *testing.T, emoji, voting string) string {
	handler, err := emojivoto.NewWeb(emoji, voting)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		handler.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server.URL
}

func get(t *testing.T, address string) (int, string, string) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header.Get("Content-Type")
}

func TestAVoteGoesFromThePageToTheLeaderboard(t *testing.T) {
	base := application(t)
	status, body, _ := get(t, base+"/api/list")
	var list []struct{ Shortcode, Unicode string }
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 || len(list) != 100 {
		t.Fatalf("list: %d, %d entries, %v", status, len(list), err)
	}
	for _, emoji := range list {
		want := 200
		if emoji.Shortcode == emojivoto.Doughnut {
			want = 500
		}
		if status, body, _ := get(t, base+"/api/vote?choice="+url.QueryEscape(emoji.Shortcode)); status != want {
			t.Errorf("a vote for %s gets %d %s, want %d", emoji.Shortcode, status, body, want)
		}
	}
	get(t, base+"/api/vote?choice=:dog:")
	status, body, _ = get(t, base+"/api/leaderboard")
	var board []struct{ Shortcode, Unicode, Votes string }
	if err := json.Unmarshal([]byte(body), &board); err != nil || status != 200 || len(board) != 99 {
		t.Fatalf("leaderboard: %d, %d entries, %v", status, len(board), err)
	}
	if board[0].Shortcode != ":dog:" || board[0].Votes != "2" || board[0].Unicode != "🐶" || board[1].Votes != "1" {
		t.Errorf("leaderboard begins with %+v", board[:2])
	}
}

func TestWebAnswersMistakesAndFailuresWithTheirStatus(t *testing.T) {
	base := application(t)
	cut := web(t, "127.0.0.1:1", "127.0.0.1:1")
	for _, row := range []struct {
		name, address, errorText string
		want                     int
	}{
		{"no choice", base + "/api/vote", "mandatory", 400},
		{"an unknown choice", base + "/api/vote?choice=:nobody:", "no emoji", 400},
		{"the doughnut", base + "/api/vote?choice=:doughnut:", "ERROR", 500},
		{"a vote without backends", cut + "/api/vote?choice=:dog:", "Unavailable", 500},
		{"a list without backends", cut + "/api/list", "Unavailable", 500},
		{"a leaderboard without backends", cut + "/api/leaderboard", "Unavailable", 500},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, body, _ := get(t, row.address)
			var answer struct{ Error string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || status != row.want || !strings.Contains(answer.Error, row.errorText) {
				t.Errorf("got %d %s, want %d with an error about %q", status, body, row.want, row.errorText)
			}
		})
	}
}

func TestThePageNeedsNothingFromElsewhere(t *testing.T) {
	base := application(t)
	outside := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]`)
	for path, contentType := range map[string]string{"/": "text/html", "/leaderboard": "text/html", "/js": "text/javascript"} {
		status, body, got := get(t, base+path)
		if status != 200 || !strings.HasPrefix(got, contentType) || body == "" {
			t.Errorf("%s: %d %s with %d bytes", path, status, got, len(body))
		}
		if found := outside.FindString(body); found != "" {
			t.Errorf("%s refers to %s", path, found)
		}
	}
	if status, _, _ := get(t, base+"/nothing"); status != 404 {
		t.Errorf("an unknown path gets %d, want 404", status)
	}
}

func TestTheBotListsVotesAndPrefersTheDoughnut(t *testing.T) {
	var lists, votes, doughnuts atomic.Int64
	base := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/list":
			lists.Add(1)
			io.WriteString(w, `[{"shortcode":":dog:","unicode":"d"}]`)
		case "/api/vote":
			votes.Add(1)
			if r.FormValue("choice") == emojivoto.Doughnut {
				doughnuts.Add(1)
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
	}))
	defer base.Close()
	bot := &emojivoto.VoteBot{Host: base.Listener.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var run sync.WaitGroup
	run.Go(func() { bot.Run(ctx, 100*time.Microsecond) })
	for deadline := time.Now().Add(time.Minute); votes.Load() < 1000 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	run.Wait()
	// 15 % of a thousand, give or take more than six standard deviations.
	share := float64(doughnuts.Load()) / float64(votes.Load())
	if votes.Load() < 1000 || lists.Load() < votes.Load() || share < 0.07 || share > 0.23 {
		t.Errorf("%d lists, %d votes, %.0f%% of them doughnuts", lists.Load(), votes.Load(), 100*share)
	}
}
