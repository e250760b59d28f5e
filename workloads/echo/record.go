package echo

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// ringSize is how many deliveries are kept; older ones are only on stdout.
const ringSize = 16384

// Events of a Delivery.
const (
	// EventRequest is an HTTP request or the start of an rpc.
	EventRequest = "request"
	// EventOpen is an accepted connection on a raw port.
	EventOpen = "open"
	// EventLine is a line received on a raw port or a message on a stream.
	EventLine = "line"
	// EventClose is the end of a connection on a raw port.
	EventClose = "close"
)

// Delivery is one thing that reached the application.
type Delivery struct {
	// Seq counts from 1 without gaps.
	Seq   int64     `json:"seq"`
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// ID is the caller's request id, "" when it sent none.
	ID string `json:"id,omitempty"`
	// Protocol is http1, http2, grpc, tcp or tls; Port the port it came to.
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
	Method   string `json:"method,omitempty"`
	// Path is the request's target exactly as the application got it.
	Path string `json:"path,omitempty"`
	// Host is the Host header or :authority.
	Host string `json:"host,omitempty"`
	// Peer is the address that the application sees: behind a proxy, the proxy.
	Peer string `json:"peer"`
	// ClientID is the l5d-client-id header, "" when absent.
	ClientID string `json:"clientID,omitempty"`
	// Headers are those of a request, by lower-case name, several values joined by
	// ", ". They are on the control port only.
	Headers map[string]string `json:"headers,omitempty"`
	// Bytes is the length of what arrived, where it is a line or a message.
	Bytes int `json:"bytes,omitempty"`
}

// Page is the answer of GET /deliveries.
type Page struct {
	// Last is the highest Seq given out so far, whether in this page or not.
	Last int64 `json:"last"`
	// Missed counts deliveries after since that the ring no longer holds.
	Missed int64 `json:"missed"`
	// Began is when the numbers began: an application that was started again has
	// another log, and what it had written before is gone.
	Began      time.Time  `json:"began"`
	Deliveries []Delivery `json:"deliveries"`
}

// Recorder keeps the last deliveries and writes each as a JSON line. It is safe
// for concurrent use.
type Recorder struct {
	began time.Time

	mu   sync.Mutex
	out  *json.Encoder
	ring []Delivery
	last int64
}

// NewRecorder returns a Recorder that writes to out.
func NewRecorder(out io.Writer) *Recorder {
	return &Recorder{began: time.Now(), out: json.NewEncoder(out)}
}

// Add numbers, dates, keeps and writes d, the headers aside, which are only kept.
func (r *Recorder) Add(d Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	d.Seq, d.Time = r.last, time.Now()
	if len(r.ring) < ringSize {
		r.ring = append(r.ring, d)
	} else {
		r.ring[(d.Seq-1)%ringSize] = d
	}
	d.Headers = nil
	r.out.Encode(d)
}

// Since lists the deliveries after seq, oldest first, those with this id only
// when it is not empty.
func (r *Recorder) Since(seq int64, id string) Page {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := Page{Last: r.last, Began: r.began, Deliveries: []Delivery{}}
	oldest := r.last - int64(len(r.ring)) + 1
	from := max(seq+1, 1)
	if from < oldest {
		page.Missed = oldest - from
		from = oldest
	}
	for n := from; n <= r.last; n++ {
		if d := r.ring[(n-1)%ringSize]; id == "" || d.ID == id {
			page.Deliveries = append(page.Deliveries, d)
		}
	}
	return page
}

// ServeHTTP answers GET /deliveries?since=N&id=ID with a Page.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var since int64
	if text := req.FormValue("since"); text != "" {
		var err error
		if since, err = strconv.ParseInt(text, 10, 64); err != nil {
			http.Error(w, "since is not a number: "+text, http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(r.Since(since, req.FormValue("id")))
}
