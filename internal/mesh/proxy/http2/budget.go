package http2

import "time"

// budget counts events of the present second.
type budget struct {
	since time.Time
	n     int
}

// spend reports whether one more event is within limit.
func (b *budget) spend(limit int) bool {
	if now := time.Now(); now.Sub(b.since) >= time.Second {
		b.since, b.n = now, 0
	}
	b.n++
	return b.n <= limit
}

// recent remembers the last numbers added, as many as it has places.
type recent struct {
	ids  []uint32
	next int
}

func (r *recent) add(id uint32) {
	if len(r.ids) < cap(r.ids) {
		r.ids = append(r.ids, id)
		return
	}
	r.ids[r.next] = id
	r.next = (r.next + 1) % len(r.ids)
}

func (r *recent) has(id uint32) bool {
	for _, known := range r.ids {
		if known == id {
			return true
		}
	}
	return false
}
