// Package control drives the agent of a client pod from outside.
//
// Requests go in and Outcomes come out, over HTTP/JSON to the agent's loopback
// port, which is reached through a port-forward: a Client is made from whatever
// http.RoundTripper does that. The types of the API are here, and the agent
// uses them too. Nothing is judged and nothing is retried.
package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// Port is the agent's port on the pod's loopback address, unless it was told to
// take any that is free: on a node's own network several agents may run.
const Port = 4193

// announcement begins the line in which an agent tells its port.
const announcement = "control API on port "

// Announcement is the line that an agent prints when it listens.
func Announcement(port int) string { return announcement + strconv.Itoa(port) }

// Announced finds the port in an agent's log; ok is false when it is not there
// (yet).
func Announced(log string) (port int, ok bool) {
	for line := range strings.Lines(log) {
		if text, found := strings.CutPrefix(strings.TrimRight(line, "\r\n"), announcement); found && strings.HasSuffix(line, "\n") {
			number, err := strconv.ParseUint(text, 10, 16)
			return int(number), err == nil && number > 0
		}
	}
	return 0, false
}

// StreamSpec asks for calls at a fixed rate, whatever becomes of the earlier
// ones (an open loop). Durations are nanoseconds in JSON.
type StreamSpec struct {
	Name string `json:"name"`
	// Request is what each call is; its ID, or the stream's name when that is
	// empty, gets "-N" appended with the number of the call from 1.
	Request clients.Request `json:"request"`
	// Rate is calls per second, above 0.
	Rate float64 `json:"rate"`
	// Count ends the stream after so many calls; 0 is MaxCount.
	Count int64 `json:"count,omitempty"`
	// Parallel bounds the calls in flight; a call that is due while all are
	// taken is missed, not postponed. 0 is as many as can be under way when
	// nobody answers any of them, so that the rate depends on no answer.
	Parallel int `json:"parallel,omitempty"`
	// Phase delays the first call, to set streams of one rate apart.
	Phase time.Duration `json:"phase,omitempty"`
}

const (
	// MaxCount is the most calls that one stream makes.
	MaxCount = 1_000_000
	// MaxRate is the highest rate of a stream, in calls per second.
	MaxRate = 20_000
	// MinParallel is how many calls of a stream may be in flight at least, and
	// MaxParallel at most, where nothing is said: an agent has so many descriptors.
	MinParallel = 256
	MaxParallel = 8192
)

// InFlight is how many calls of the stream may be in flight.
func (s *StreamSpec) InFlight() int {
	if s.Parallel != 0 {
		return s.Parallel
	}
	timeout := cmp.Or(s.Request.Timeout, clients.DefaultTimeout)
	return int(min(max(s.Rate*(timeout+time.Second).Seconds(), MinParallel), MaxParallel))
}

// Numbered is a call of a stream that is over.
type Numbered struct {
	// Seq counts the answers, in the order in which they came, from 1.
	Seq int64 `json:"seq"`
	// Call is the number of the call in the order of sending, from 1.
	Call    int64           `json:"call"`
	Outcome clients.Outcome `json:"outcome"`
}

// StreamPage is the state of a stream, with the answers after a given one.
type StreamPage struct {
	Name string `json:"name"`
	// Running is false once all calls have been made and answered.
	Running bool `json:"running"`
	// Sent counts calls made; Missed those that were due and not made, because
	// too many were in flight or the machine was late.
	Sent   int64 `json:"sent"`
	Missed int64 `json:"missed"`
	// UnderWay is when the calls began that have no answer yet.
	UnderWay []time.Time `json:"underWay,omitempty"`
	// Last is the highest Seq so far, also beyond this page.
	Last int64 `json:"last"`
	// Dropped counts answers after the one asked for that are no longer kept.
	Dropped  int64      `json:"dropped"`
	Outcomes []Numbered `json:"outcomes"`
}

// ConnectionSpec asks for a connection that is held open.
type ConnectionSpec struct {
	Name    string          `json:"name"`
	Request clients.Request `json:"request"`
	// Interval is the pause between two echoes; 0 is clients.DefaultEcho.
	Interval time.Duration `json:"interval,omitempty"`
}

// Client speaks to one agent. It is safe for concurrent use.
type Client struct {
	http *http.Client
}

// New returns a Client over a transport that carries requests for any host to
// the agent's port.
func New(transport http.RoundTripper) *Client {
	return &Client{&http.Client{Transport: transport}}
}

// NewDialer returns a Client whose connections are made by dial, and the
// function that gives up the idle ones.
func NewDialer(dial func(ctx context.Context) (net.Conn, error)) (*Client, func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: 4,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	return New(transport), transport.CloseIdleConnections
}

// Error is an answer of the agent that is not a success.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return fmt.Sprintf("agent answered %d: %s", e.Status, e.Text) }

// Ready returns nil when the agent answers.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/ready", nil, nil, nil)
}

// Time asks for the agent's clock, so that a caller can bound the offset.
func (c *Client) Time(ctx context.Context) (time.Time, error) {
	var now time.Time
	return now, c.do(ctx, http.MethodGet, "/time", nil, nil, &now)
}

// Call makes one call.
func (c *Client) Call(ctx context.Context, request clients.Request) (clients.Outcome, error) {
	var out clients.Outcome
	return out, c.do(ctx, http.MethodPost, "/call", nil, request, &out)
}

// Calls makes all calls, so many at a time (0 is all at once), and returns the
// outcomes in the order of the requests.
func (c *Client) Calls(ctx context.Context, requests []clients.Request, parallel int) ([]clients.Outcome, error) {
	var out []clients.Outcome
	return out, c.do(ctx, http.MethodPost, "/calls", url.Values{"parallel": {strconv.Itoa(parallel)}}, requests, &out)
}

// StartStream starts a stream. A name that is in use is an Error with 409.
func (c *Client) StartStream(ctx context.Context, spec StreamSpec) error {
	return c.do(ctx, http.MethodPost, "/streams", nil, spec, nil)
}

// Stream returns the answers after seq since. With a wait above 0 it blocks up
// to that long for the first of them, or the stream's end.
func (c *Client) Stream(ctx context.Context, name string, since int64, wait time.Duration) (StreamPage, error) {
	var page StreamPage
	query := url.Values{"since": {strconv.FormatInt(since, 10)}, "timeout": {wait.String()}}
	return page, c.do(ctx, http.MethodGet, "/streams/"+url.PathEscape(name), query, nil, &page)
}

// Streams returns the answers of many streams, of each those after the seq that it is
// mapped to, in the order of their names. With a wait above 0 it blocks up to that long
// for one of each stream, or the stream's end. A name that is not there is an Error
// with 404.
func (c *Client) Streams(ctx context.Context, since map[string]int64, wait time.Duration) ([]StreamPage, error) {
	var pages []StreamPage
	return pages, c.do(ctx, http.MethodPost, "/pages", url.Values{"timeout": {wait.String()}}, since, &pages)
}

// StopStream ends a stream, waits for the calls in flight and returns the
// answers after since. The name is free afterwards.
func (c *Client) StopStream(ctx context.Context, name string, since int64) (StreamPage, error) {
	var page StreamPage
	query := url.Values{"since": {strconv.FormatInt(since, 10)}}
	return page, c.do(ctx, http.MethodDelete, "/streams/"+url.PathEscape(name), query, nil, &page)
}

// StopStreams ends many streams at once and waits for their calls in flight. It returns
// the last answers of those that there were, of each those after the seq that it is
// mapped to, in the order of their names, which are free afterwards.
func (c *Client) StopStreams(ctx context.Context, since map[string]int64) ([]StreamPage, error) {
	var pages []StreamPage
	return pages, c.do(ctx, http.MethodDelete, "/streams", nil, since, &pages)
}

// OpenConnection opens a held connection and returns its state after the first
// echo or the failure to get one.
func (c *Client) OpenConnection(ctx context.Context, spec ConnectionSpec) (clients.HeldState, error) {
	var state clients.HeldState
	return state, c.do(ctx, http.MethodPost, "/connections", nil, spec, &state)
}

// Connection returns the state of a held connection. With a wait above 0 it
// blocks up to that long for the connection's end.
func (c *Client) Connection(ctx context.Context, name string, wait time.Duration) (clients.HeldState, error) {
	var state clients.HeldState
	return state, c.do(ctx, http.MethodGet, "/connections/"+url.PathEscape(name), url.Values{"timeout": {wait.String()}}, nil, &state)
}

// CloseConnection closes a held connection and returns its last state.
func (c *Client) CloseConnection(ctx context.Context, name string) (clients.HeldState, error) {
	var state clients.HeldState
	return state, c.do(ctx, http.MethodDelete, "/connections/"+url.PathEscape(name), nil, nil, &state)
}

// errorLimit bounds the text that is read from an answer that is an error.
const errorLimit = 4 << 10

func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(encoded)
	}
	target := url.URL{Scheme: "http", Host: "client-agent", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return fmt.Errorf("make %s %s: %w", method, path, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the client agent: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, errorLimit))
		return fmt.Errorf("%s %s: %w", method, path, &Error{response.StatusCode, string(bytes.TrimSpace(text))})
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("read the agent's answer to %s %s: %w", method, path, err)
	}
	return nil
}
