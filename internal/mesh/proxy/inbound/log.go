package inbound

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Every denial is logged (N-13), but a flood of them must not become a flood of
// lines: beyond the rate they are counted, and the next line says how many.
const (
	logsPerSecond = 50
	logBurst      = 200
)

type policyLog struct {
	log     *slog.Logger
	limit   *rate.Limiter
	dropped atomic.Int64
}

func newPolicyLog(log *slog.Logger) *policyLog {
	return &policyLog{
		log:   log.With("target", "linkerd_app_inbound::policy"),
		limit: rate.NewLimiter(logsPerSecond, logBurst),
	}
}

func (l *policyLog) info(msg string, args ...any) {
	if l.admits() {
		l.write(msg, args...)
	}
}

// admits tells whether there is room for a line, which write is then called for.
func (l *policyLog) admits() bool {
	if !l.limit.Allow() {
		l.dropped.Add(1)
		return false
	}
	return true
}

func (l *policyLog) write(msg string, args ...any) {
	if n := l.dropped.Swap(0); n > 0 {
		args = append(args, "suppressed", n)
	}
	l.log.Info(msg, args...)
}
