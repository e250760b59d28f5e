package authz

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// known is an informer whose pods are known from the start, or never.
type known struct {
	cache.SharedInformer
	synced bool
}

func (k known) HasSynced() bool { return k.synced }

func newScraper(synced bool) *scraper {
	return &scraper{store: NewStore(MaxWindow), pods: known{cache.NewSharedInformer(nil, &corev1.Pod{}, 0), synced},
		client: http.DefaultClient, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func TestAScrapeSaysWhyItDidNotSucceed(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, exposition("1", "2", "3", "4")) }, ""},
		{"a denial names the grant that is missing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "grant ServiceAccount scraper"},
		{"another status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "502"},
		{"something that is no exposition", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{") }, "read the metrics"},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy := httptest.NewServer(test.answer)
			defer proxy.Close()
			s := newScraper(true)
			err := s.scrape(t.Context(), target{pod, proxy.URL})
			switch {
			case test.want == "" && err != nil:
				t.Errorf("scrape = %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("scrape = %v, want an error that says %q", err, test.want)
			}
		})
	}
}

func TestQuestionsAreCheckedBeforeTheyAreAnswered(t *testing.T) {
	for _, test := range []struct {
		query string
		code  int
		want  string
	}{
		{"pods=emojivoto/voting&window=15s", http.StatusOK, `"scrapes"`},
		{"pods=emojivoto/voting&window=14s", http.StatusBadRequest, "15s"},
		{"pods=emojivoto/voting&window=11m", http.StatusBadRequest, "10m0s"},
		{"pods=emojivoto/voting&window=soon", http.StatusBadRequest, "soon"},
		{"pods=,", http.StatusBadRequest, "pods is empty"},
	} {
		answer := httptest.NewRecorder()
		newScraper(true).handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/authz?"+test.query, nil))
		if answer.Code != test.code || !strings.Contains(answer.Body.String(), test.want) {
			t.Errorf("%s: %d %q, want %d and %q", test.query, answer.Code, answer.Body, test.code, test.want)
		}
	}
}

func TestTheScraperIsReadyOnceItKnowsThePods(t *testing.T) {
	for synced, want := range map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable} {
		answer := httptest.NewRecorder()
		newScraper(synced).handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/ready", nil))
		if answer.Code != want {
			t.Errorf("/ready with pods known: %v = %d, want %d", synced, answer.Code, want)
		}
	}
}
