package http1

import (
	"cmp"
	"time"
)

// Limits are the bounds of a connection, all of them. A zero field means the default.
type Limits struct {
	// Head is the greatest number of bytes of a head, either side's: 431, or 502.
	Head int
	// Fields is the greatest number of fields of a head, and of a trailer section.
	Fields int
	// Trailer is the greatest number of bytes of a trailer section, and of the line
	// before a chunk.
	Trailer int
	// Extension is the greatest number of bytes of chunk extensions in a body;
	// they are not passed on.
	Extension int
	// Informational is the greatest number of 1xx answers to a request.
	Informational int
	// Discard is how much of a body nobody wants is read so that the connection can
	// go on; with more to come it ends.
	Discard int64

	// HeadTime bounds a head, from its first byte to its last; 408 or just the end.
	HeadTime time.Duration
	// Idle ends a connection that waits for a request.
	Idle time.Duration
	// Stall ends an exchange when a body that is under way, or an answer the client
	// does not take, has not moved on for so long.
	Stall time.Duration
	// Linger is how long the client's bytes are taken and dropped after the
	// last answer, so that a reset does not destroy it.
	Linger time.Duration
	// Watch is how long an application may think before the client is watched for
	// having gone, which takes a goroutine.
	Watch time.Duration
	// HalfOpen is how long one direction of a tunnel may stay silent after the
	// other has ended.
	HalfOpen time.Duration
}

// The defaults of Limits.
const (
	DefaultHead          = 64 << 10
	DefaultFields        = 128
	DefaultTrailer       = 8 << 10
	DefaultExtension     = 1 << 10
	DefaultInformational = 32
	DefaultDiscard       = 256 << 10
	DefaultHeadTime      = 10 * time.Second
	DefaultIdle          = 10 * time.Minute
	DefaultStall         = 5 * time.Minute
	DefaultLinger        = 500 * time.Millisecond
	DefaultWatch         = 500 * time.Millisecond
	DefaultHalfOpen      = time.Hour
)

// Limit names a limit that has bitten, for a counter.
type Limit uint8

// The limits that can bite.
const (
	HeadLimit Limit = iota
	FieldsLimit
	TrailerLimit
	ExtensionLimit
	InformationalLimit
	DiscardLimit
	HeadTimeLimit
	IdleLimit
	StallLimit
	HalfOpenLimit
	limits
)

// String is the limit's name as a metric label.
func (l Limit) String() string {
	return [limits]string{"head", "fields", "trailer", "extension", "informational", "discard", "head time", "idle", "stall", "half open"}[l]
}

// EachLimit ranges over the limits.
func EachLimit(yield func(Limit) bool) {
	for l := range limits {
		if !yield(l) {
			return
		}
	}
}

func (l *Limits) setDefaults() {
	l.Head = cmp.Or(l.Head, DefaultHead)
	l.Fields = cmp.Or(l.Fields, DefaultFields)
	l.Trailer = cmp.Or(l.Trailer, DefaultTrailer)
	l.Extension = cmp.Or(l.Extension, DefaultExtension)
	l.Informational = cmp.Or(l.Informational, DefaultInformational)
	l.Discard = cmp.Or(l.Discard, DefaultDiscard)
	l.HeadTime = cmp.Or(l.HeadTime, DefaultHeadTime)
	l.Idle = cmp.Or(l.Idle, DefaultIdle)
	l.Stall = cmp.Or(l.Stall, DefaultStall)
	l.Linger = cmp.Or(l.Linger, DefaultLinger)
	l.Watch = cmp.Or(l.Watch, DefaultWatch)
	l.HalfOpen = cmp.Or(l.HalfOpen, DefaultHalfOpen)
	l.Trailer = min(l.Trailer, bufferSize/2) // a line must fit in a buffer
}

// Bounds that nobody needs to change.
const (
	// longestMethod is more than any that is registered.
	longestMethod = 32
	// mostOptions is the greatest number of options in Connection: each is compared with each field.
	mostOptions = 32
	// longestSize is how many digits the size of a chunk may have.
	longestSize = 16
)
