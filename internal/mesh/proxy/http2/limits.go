package http2

import (
	"cmp"
	"time"
)

// Every limit of the relay is in this file, with what happens when it bites. Each
// bite is told to Config.Bite.

// Defaults of Limits.
const (
	// DefaultHeadBytes counts names and values with 32 bytes for each field, as
	// RFC 9113 section 10.5.1 does.
	DefaultHeadBytes  = 64 << 10
	DefaultHeadFields = 128
	DefaultStreams    = 250
	// DefaultResets leaves room for clients whose calls often time out.
	DefaultResets  = 500
	DefaultControl = 2000
	// DefaultHeadTime is that of HTTP/1's heads.
	DefaultHeadTime  = 10 * time.Second
	DefaultIdleTime  = 10 * time.Minute
	DefaultWriteTime = 30 * time.Second
)

// Limits bound what one client connection may make the relay do or hold.
type Limits struct {
	// HeadBytes and HeadFields bound a head; a bigger one gets 431.
	HeadBytes, HeadFields int
	// Streams open at once; one more is refused (REFUSED_STREAM).
	Streams int
	// Resets per second, the client's and those it causes; beyond it the connection
	// ends with ENHANCE_YOUR_CALM. So it does beyond Control frames per second that
	// carry nothing: SETTINGS, PING, PRIORITY, empty DATA, unknown types, and
	// WINDOW_UPDATE by less than smallCredit, as far as they are no answers to DATA.
	Resets, Control int
	// HeadTime bounds the time from the first byte of a head, or of the preface, to
	// its last. IdleTime ends a connection without streams. WriteTime ends one that
	// takes nothing while there is something to send, and breaks streams that are not
	// taken when they have left no window to others for so long.
	HeadTime, IdleTime, WriteTime time.Duration
}

// Limit names a limit that has bitten.
type Limit uint8

// The limits, in the order of Limits' fields; blocks last.
const (
	LimitHeadBytes Limit = iota
	LimitHeadFields
	LimitStreams
	LimitResets
	LimitControl
	LimitHeadTime
	LimitIdleTime
	LimitWriteTime
	// LimitBlock: a head of more than blockFactor times HeadBytes as encoded, or of
	// more than maxFragments frames. It is not decoded; the connection ends.
	LimitBlock
	limitCount
)

var limitNames = [limitCount]string{
	"head bytes", "head fields", "streams", "resets", "control frames",
	"head time", "idle time", "write time", "header block",
}

func (l Limit) String() string { return limitNames[l] }

// EachLimit ranges over the limits.
func EachLimit(yield func(Limit) bool) {
	for l := range limitCount {
		if !yield(l) {
			return
		}
	}
}

const (
	// blockFactor and maxFragments bound a header block as it arrives.
	blockFactor  = 2
	maxFragments = 64
	// maxFrame is the largest frame payload that either peer may send us; it is the
	// smallest that RFC 9113 allows, so every peer can take what we pass on.
	maxFrame = 16 << 10
	// streamWindow and connWindow are what each peer may send before it is credited.
	// What a receiver does not take of its streams stays in the window of their
	// sender's connection, and what is left of that serves the others: one is many
	// times the other, so that some dozens of streams may wait for a slow reader.
	// When there are so many that nothing is left, those that hold most are broken
	// after WriteTime (overfull).
	streamWindow = 64 << 10
	connWindow   = 4 << 20
	// creditStep is how much a connection is credited at a time. It is little beside
	// connWindow, since what has not been credited yet is missing there too.
	creditStep = 256 << 10
	// maxWrite is the most that a peer must take within WriteTime.
	maxWrite = 64 << 10
	// smallCredit is less than any client widens a window by that waits for some of it
	// to be used.
	smallCredit = 256
	// answersPerData is how many small frames a DATA frame may bring from its receiver:
	// a credit for its stream, one for the connection and a ping.
	answersPerData = 3
	// highWater is how much may wait for a peer before those who fill wait too.
	highWater = 256 << 10
	// tableSize is the largest dynamic table of each of the four HPACK contexts.
	tableSize = 4096
	// lingerTime and lingerBytes bound what is read of a client after the last frame
	// to it, so that closing does not take that frame from it.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
	// tick is how often time limits are looked at, if none of them is short: they may
	// bite that much later.
	tick = 5 * time.Second
)

func (l Limits) withDefaults() Limits {
	l.HeadBytes = cmp.Or(l.HeadBytes, DefaultHeadBytes)
	l.HeadFields = cmp.Or(l.HeadFields, DefaultHeadFields)
	l.Streams = cmp.Or(l.Streams, DefaultStreams)
	l.Resets = cmp.Or(l.Resets, DefaultResets)
	l.Control = cmp.Or(l.Control, DefaultControl)
	l.HeadTime = cmp.Or(l.HeadTime, DefaultHeadTime)
	l.IdleTime = cmp.Or(l.IdleTime, DefaultIdleTime)
	l.WriteTime = cmp.Or(l.WriteTime, DefaultWriteTime)
	return l
}
