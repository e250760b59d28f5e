package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
)

// Log is the proxy's log: lines of JSON, whose level may be changed and which may
// be listened to while they are written (B-06).
type Log struct {
	*slog.Logger
	level slog.LevelVar
	tap   logTap
}

// NewLog writes to to.
func NewLog(to io.Writer) *Log {
	l := &Log{tap: logTap{to: to}}
	l.Logger = slog.New(slog.NewJSONHandler(&l.tap, &slog.HandlerOptions{Level: &l.level}))
	return l
}

// logBacklog is how many lines a reader of the log may be behind before lines are
// left out for it.
const logBacklog = 256

// logTap passes log lines on and gives a copy to everybody who listens.
type logTap struct {
	to io.Writer

	mu      sync.Mutex
	readers map[chan []byte]struct{}
}

// Write implements io.Writer; a call is a line. Readers never hold it up.
func (l *logTap) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for reader := range l.readers {
		select {
		case reader <- append([]byte(nil), line...):
		default:
		}
	}
	return l.to.Write(line)
}

func (l *logTap) listen() (lines chan []byte, leave func()) {
	lines = make(chan []byte, logBacklog)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers == nil {
		l.readers = map[chan []byte]struct{}{}
	}
	l.readers[lines] = struct{}{}
	return lines, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.readers, lines)
	}
}

// logs streams the lines that are written from now on, one JSON object each,
// until the client leaves or the proxy ends.
func (a *admin) logs(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	lines, leave := a.log.tap.listen()
	defer leave()
	w.Header().Set("Content-Type", "application/json")
	flush := http.NewResponseController(w)
	flush.Flush()
	for {
		select {
		case line := <-lines:
			if _, err := w.Write(line); err != nil {
				return
			}
			flush.Flush()
		case <-r.Context().Done():
			return
		case <-a.ending:
			return
		}
	}
}
