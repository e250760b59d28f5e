package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/inbound"
)

// maxObserveTimeout bounds the blocking variant of /policy.
const maxObserveTimeout = 5 * time.Minute

// observeHandler is the test control port: what is in force and what was
// decided. It is bound to loopback, changes nothing and adds nothing to
// data-plane bytes.
//
//	GET /policy                             {"ports":{"8080":{"hash","source","protocol","server","version"}}}
//	GET /policy?port=N&hash=H&timeout=5s    waits until H is in force on N; 504 when it is not in time
//	GET /decisions?since=SEQ[&port=N][&client=IP:PORT]
func observeHandler(policies *inbound.PolicyView, decisions *inbound.Decisions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /policy", func(w http.ResponseWriter, r *http.Request) {
		type answer struct {
			Ports map[string]inbound.PortView `json:"ports"`
		}
		query := r.URL.Query()
		if query.Get("port") == "" {
			writeJSON(w, http.StatusOK, answer{policies.All()})
			return
		}
		port, err := parsePort(query.Get("port"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		timeout, err := parseTimeout(query.Get("timeout"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var hashes []string
		if hash := query.Get("hash"); hash != "" {
			hashes = []string{strings.ToLower(hash)}
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		view, ok := policies.Await(ctx, port, hashes...)
		status := http.StatusOK
		if !ok {
			status = http.StatusGatewayTimeout
		}
		writeJSON(w, status, answer{map[string]inbound.PortView{query.Get("port"): view}})
	})
	mux.HandleFunc("GET /decisions", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		filter := inbound.DecisionFilter{Client: query.Get("client")}
		var err error
		if since := query.Get("since"); since != "" {
			if filter.Since, err = strconv.ParseUint(since, 10, 64); err != nil {
				http.Error(w, fmt.Sprintf("since=%q: want a sequence number", since), http.StatusBadRequest)
				return
			}
		}
		if port := query.Get("port"); port != "" {
			if filter.Port, err = parsePort(port); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		writeJSON(w, http.StatusOK, decisions.List(filter))
	})
	return mux
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port=%q: want 1 to 65535", text)
	}
	return uint16(port), nil
}

func parseTimeout(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("timeout=%q: want a duration such as 5s", text)
	}
	return min(d, maxObserveTimeout), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
