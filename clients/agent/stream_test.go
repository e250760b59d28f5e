package agent

import (
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
)

func TestStreamsShareTheRoomForAnswersAndSayWhatIsNoLongerThere(t *testing.T) {
	if share(0) != keptOfOne || share(1) != keptOfOne || share(8) != keptOfAll/8 || share(1<<20) != keptAtLeast {
		t.Errorf("shares are %d, %d, %d, %d", share(0), share(1), share(8), share(1<<20))
	}
	a := &Agent{}
	a.count.Store(keptOfAll / (2 * keptAtLeast))
	s := &stream{agent: a, begun: map[int64]time.Time{}}
	const all = 3 * keptAtLeast
	for call := int64(1); call <= all; call++ {
		s.add(call, clients.Outcome{Kind: clients.Allowed})
	}
	for _, kept := range []int64{2 * keptAtLeast, keptAtLeast} {
		page := s.page(0)
		if page.Dropped != s.last-kept || page.Last != s.last || int64(len(page.Outcomes)) != kept || page.Outcomes[0].Seq != s.last-kept+1 || page.Outcomes[kept-1].Seq != s.last {
			t.Errorf("%d answers, %d dropped, last %d, want %d answers of %d", len(page.Outcomes), page.Dropped, page.Last, kept, s.last)
		}
		// When there are many more streams, each has less.
		a.count.Store(keptOfAll)
		s.add(s.last+1, clients.Outcome{})
	}
	if page := s.page(s.last - 1); page.Dropped != 0 || len(page.Outcomes) != 1 || page.Outcomes[0].Seq != s.last {
		t.Errorf("after the last but one there are %+v", page)
	}
	if page := s.page(s.last); page.Dropped != 0 || len(page.Outcomes) != 0 {
		t.Errorf("after the last one there are %+v", page)
	}
}
