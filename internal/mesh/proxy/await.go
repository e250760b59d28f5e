package proxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"
)

const (
	// awaitTimeout is how long an application's start may wait for its proxy.
	awaitTimeout = 2 * time.Minute
	// awaitRetry is the pause between questions, awaitAnswer what one may take.
	awaitRetry  = 50 * time.Millisecond
	awaitAnswer = 15 * time.Second
)

// AwaitMain is the role `proxy-await`: it returns once the proxy of its pod is
// ready, and is run before the application starts.
func AwaitMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("proxy-await", flag.ContinueOnError)
	timeout := flags.Duration("timeout", awaitTimeout, "how long to wait")
	url := flags.String("url", "http://127.0.0.1:4191/ready", "what must answer 200")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	client := &http.Client{Timeout: awaitAnswer, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		err := ask(ctx, client, *url)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(awaitRetry):
		case <-ctx.Done():
			return fmt.Errorf("proxy not ready: %w", errors.Join(ctx.Err(), err))
		}
	}
}

func ask(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", url, response.Status)
	}
	return nil
}
