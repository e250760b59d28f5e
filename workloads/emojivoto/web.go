package emojivoto

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshproof/meshproof/workloads/rpc"
)

// reconnectMax bounds the pause between two attempts to reach a backend, so
// that web is not seen failing for long after voting has come back. gRPC's own
// default of two minutes would outlast whole scenarios.
const reconnectMax = time.Second

var (
	//go:embed page/index.html
	indexPage []byte
	//go:embed page/app.js
	indexScript []byte
)

// Web is the page and the API behind it (rule E-06):
//
//	/, /leaderboard               the page
//	/js                           its script
//	/api/list                     [{"shortcode","unicode"}]
//	/api/vote?choice=:shortcode:  200 with an empty body; 400 for a missing or
//	                              unknown choice; 500 when a backend fails
//	/api/leaderboard              [{"shortcode","unicode","votes"}], votes as text
//
// Errors are {"error": text}.
type Web struct {
	http.ServeMux
	emoji, voting *grpc.ClientConn
}

// NewWeb returns a Web that calls the two backends (host:port). It does not
// wait for them to be there.
func NewWeb(emojiHost, votingHost string) (*Web, error) {
	w := &Web{}
	var err error
	if w.emoji, err = dial(emojiHost); err != nil {
		return nil, err
	}
	if w.voting, err = dial(votingHost); err != nil {
		w.emoji.Close()
		return nil, err
	}
	w.HandleFunc("/{$}", static("text/html; charset=UTF-8", indexPage))
	w.HandleFunc("/leaderboard", static("text/html; charset=UTF-8", indexPage))
	w.HandleFunc("/js", static("text/javascript; charset=UTF-8", indexScript))
	w.HandleFunc("/api/list", answer(w.list))
	w.HandleFunc("/api/vote", answer(w.vote))
	w.HandleFunc("/api/leaderboard", answer(w.leaderboard))
	return w, nil
}

// Close gives up the connections to the backends.
func (w *Web) Close() error {
	return errors.Join(w.emoji.Close(), w.voting.Close())
}

func dial(host string) (*grpc.ClientConn, error) {
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = reconnectMax/10, reconnectMax
	conn, err := grpc.NewClient("dns:///"+host, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: reconnectMax}))
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", host, err)
	}
	return conn, nil
}

// emojiView is an emoji as the API shows it.
type emojiView struct {
	Shortcode string `json:"shortcode"`
	Unicode   string `json:"unicode"`
	Votes     string `json:"votes,omitempty"`
}

// badChoice is the client's own mistake, answered with 400.
type badChoice string

func (e badChoice) Error() string { return string(e) }

func (w *Web) list(r *http.Request) (any, error) {
	out, err := rpc.Call(r.Context(), w.emoji, emojiMethod("ListAll"), nil)
	if err != nil {
		return nil, err
	}
	views := []emojiView{}
	list := out.Get(out.Descriptor().Fields().ByName(fieldList)).List()
	for i := range list.Len() {
		m := list.Get(i).Message()
		views = append(views, emojiView{Shortcode: rpc.GetString(m, fieldCode), Unicode: rpc.GetString(m, fieldUnicode)})
	}
	return views, nil
}

func (w *Web) vote(r *http.Request) (any, error) {
	choice := r.FormValue("choice")
	if choice == "" {
		return nil, badChoice("a choice is mandatory: /api/vote?choice=:dog:")
	}
	if _, err := w.find(r, choice); err != nil {
		return nil, err
	}
	emoji, ok := Find(choice)
	if !ok {
		return nil, badChoice(fmt.Sprintf("no rpc votes for %q", choice))
	}
	_, err := rpc.Call(r.Context(), w.voting, votingMethod(emoji.Method()), nil)
	return nil, err
}

func (w *Web) leaderboard(r *http.Request) (any, error) {
	out, err := rpc.Call(r.Context(), w.voting, votingMethod("Results"), nil)
	if err != nil {
		return nil, err
	}
	views := []emojiView{}
	list := out.Get(out.Descriptor().Fields().ByName(fieldResults)).List()
	for i := range list.Len() {
		m := list.Get(i).Message()
		view, err := w.find(r, rpc.GetString(m, fieldShortcode))
		if err != nil {
			return nil, err
		}
		view.Votes = strconv.FormatInt(m.Get(m.Descriptor().Fields().ByName(fieldVotes)).Int(), 10)
		views = append(views, view)
	}
	return views, nil
}

func (w *Web) find(r *http.Request, shortcode string) (emojiView, error) {
	out, err := rpc.Call(r.Context(), w.emoji, emojiMethod("FindByShortcode"), func(in *dynamicpb.Message) {
		rpc.SetString(in, fieldShortcode, shortcode)
	})
	if err != nil {
		return emojiView{}, err
	}
	field := out.Descriptor().Fields().ByName(fieldEmoji)
	if !out.Has(field) {
		return emojiView{}, badChoice(fmt.Sprintf("there is no emoji %q", shortcode))
	}
	m := out.Get(field).Message()
	return emojiView{Shortcode: rpc.GetString(m, fieldCode), Unicode: rpc.GetString(m, fieldUnicode)}, nil
}

func static(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Write(body)
	}
}

// answer writes what handle returns as JSON; nil is an empty 200.
func answer(handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		body, err := handle(r)
		if err != nil {
			status = http.StatusInternalServerError
			if bad := badChoice(""); errors.As(err, &bad) {
				status = http.StatusBadRequest
			}
			body = map[string]string{"error": err.Error()}
		}
		if body == nil {
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(body)
	}
}
