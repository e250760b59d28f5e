package emojivoto

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	// doughnutShare is how many of the bot's votes go to the doughnut (E-08).
	doughnutShare = 0.15
	// botTimeout bounds one call to web, so that a bot which is cut off goes on
	// at its pace once it is let in again.
	botTimeout = 5 * time.Second
)

// VoteBotMain is the role vote-bot: at REQUEST_RATE per second (1 when unset) it
// fetches the list from WEB_HOST (host:port) and votes. It ends after TTL
// seconds when that is set, and never otherwise (rule E-10).
func VoteBotMain(ctx context.Context, _ []string) error {
	host, err := required("WEB_HOST")
	if err != nil {
		return err
	}
	rate, err := positive("REQUEST_RATE", 1)
	if err != nil {
		return err
	}
	if os.Getenv("TTL") != "" {
		ttl, err := positive("TTL", 0)
		if err != nil {
			return err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ttl)*time.Second)
		defer cancel()
	}
	bot := &VoteBot{Host: host, Log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	bot.Run(ctx, time.Second/time.Duration(rate))
	return nil
}

func positive(name string, unset int) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return unset, nil
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 {
		return 0, fmt.Errorf("environment variable %s is %q, want a whole number above 0", name, text)
	}
	return value, nil
}

// VoteBot votes like a user of the page.
type VoteBot struct {
	// Host is web's host:port.
	Host string
	// Log gets a line for each round that failed; nil is silent.
	Log    *slog.Logger
	client http.Client
}

// Run votes once per interval until ctx ends. Rounds do not overlap: what a
// slow web missed is not made up for.
func (b *VoteBot) Run(ctx context.Context, interval time.Duration) {
	defer b.client.CloseIdleConnections()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := b.Round(ctx); err != nil && ctx.Err() == nil && b.Log != nil {
			b.Log.Warn("round failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Round fetches the list and casts one vote.
func (b *VoteBot) Round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, botTimeout)
	defer cancel()
	body, err := b.get(ctx, "/api/list")
	if err != nil {
		return err
	}
	var list []emojiView
	if err := json.Unmarshal(body, &list); err != nil || len(list) == 0 {
		return fmt.Errorf("read the list of %d bytes from %s: %w", len(body), b.Host, err)
	}
	choice := Doughnut
	if rand.Float64() >= doughnutShare {
		choice = list[rand.IntN(len(list))].Shortcode
	}
	_, err = b.get(ctx, "/api/vote?choice="+url.QueryEscape(choice))
	return err
}

func (b *VoteBot) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.Host+path, nil)
	if err != nil {
		return nil, fmt.Errorf("make a request for %s: %w", path, err)
	}
	response, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d", path, response.StatusCode)
	}
	return body, nil
}
