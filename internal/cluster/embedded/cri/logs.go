package cri

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxLogLine is the longest piece of a line, in bytes, that is written as one
// log entry; longer lines are split and tagged partial.
const maxLogLine = 16 << 10

// containerLog is a container's log file in the CRI format: each entry is
// "time stream tag content". Its zero value discards.
type containerLog struct {
	path string

	mu   sync.Mutex
	file *os.File
}

func openLog(path string) (*containerLog, error) {
	l := &containerLog{path: path}
	return l, l.reopen()
}

// reopen starts a new file at the same path, after the old one was moved away.
func (l *containerLog) reopen() error {
	if l.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return nil
}

func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

func (l *containerLog) write(entries []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		// A full disk must not stop the container.
		_, _ = l.file.Write(entries)
	}
}

// copy writes what it reads to the log until from ends, and passes every chunk
// to tee as it came. Text after the last newline waits for the rest of its
// line, and is written as partial when nothing follows.
func (l *containerLog) copy(stream runtimeapi.LogStreamType, from io.Reader, tee func([]byte)) error {
	buffer := make([]byte, maxLogLine)
	var entries []byte
	held := 0
	for {
		n, err := from.Read(buffer[held:])
		if n > 0 {
			tee(buffer[held : held+n])
		}
		held += n
		now := time.Now()
		entries = entries[:0]
		rest := buffer[:held]
		for {
			line, after, whole := bytes.Cut(rest, []byte{'\n'})
			if !whole {
				break
			}
			entries = appendEntry(entries, now, stream, runtimeapi.LogTag("F"), line)
			rest = after
		}
		if len(rest) > 0 && (err != nil || len(rest) == len(buffer)) {
			entries = appendEntry(entries, now, stream, runtimeapi.LogTagPartial, rest)
			rest = nil
		}
		held = copy(buffer, rest)
		if len(entries) > 0 {
			l.write(entries)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func appendEntry(entries []byte, now time.Time, stream runtimeapi.LogStreamType, tag runtimeapi.LogTag, line []byte) []byte {
	entries = now.AppendFormat(entries, time.RFC3339Nano)
	entries = append(entries, ' ')
	entries = append(entries, stream...)
	entries = append(entries, ' ')
	entries = append(entries, tag...)
	entries = append(entries, ' ')
	entries = append(entries, line...)
	return append(entries, '\n')
}
