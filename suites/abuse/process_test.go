package abuse

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor times in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu is the processor time that the proxy has used.
func (w *world) cpu() time.Duration {
	w.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.proxy.PID()))
	if err != nil {
		w.Fatalf("%v", err)
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}

// memory is the proxy's resident set, in bytes; peak the largest that it has had.
func (w *world) memory() (now, peak int64) {
	w.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.proxy.PID()))
	if err != nil {
		w.Fatalf("%v", err)
	}
	read := func(name string) int64 {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindStringSubmatch(string(raw))
		if m == nil {
			w.Fatalf("no %s in /proc", name)
		}
		kb, _ := strconv.ParseInt(m[1], 10, 64)
		return kb << 10
	}
	return read("VmRSS"), read("VmHWM")
}

// files is how many descriptors the proxy has open.
func (w *world) files() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.proxy.PID()))
	return len(entries)
}

// metrics are the series of the proxy's page that have a name with this begin.
func (w *world) metrics(begin string) map[string]float64 {
	w.Helper()
	page, err := w.proxy.Metrics(w.Context())
	if err != nil {
		w.Fatalf("metrics: %v", err)
	}
	series := map[string]float64{}
	for line := range strings.Lines(string(page)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 {
			name, value = line[:i], strings.TrimSpace(line[i:])
		}
		if ok && strings.HasPrefix(name, begin) {
			series[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return series
}
