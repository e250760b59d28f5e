package inbound

import (
	"net/http"
)

// serveAdminRequest lets the proxy itself answer, counted like any other answer.
func (s *Server) serveAdminRequest(w http.ResponseWriter, r *http.Request, c *call) {
	counted := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	s.cfg.Admin.ServeHTTP(counted, r)
	s.observeStatus(c, counted.status)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
