package engine

import (
	"sync"
)

// group runs functions side by side and keeps the first error.
type group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	first error
}

func newGroup() *group { return &group{} }

func (g *group) do(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.first == nil {
				g.first = err
			}
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	return g.first
}
