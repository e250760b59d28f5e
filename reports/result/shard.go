package result

import "fmt"

// Shard says which part of a plan a run has carried out.
type Shard struct {
	// Group is the same for the parts of one run and for no other: the uid of
	// a Job, or what the user gave. Empty: parts are told by their plan alone.
	Group string `json:"group,omitempty"`
	// Index counts from 1.
	Index int `json:"index"`
	Count int `json:"count"`
	// Plan is the digest of the whole plan, and Claims how many claims it has.
	Plan   string `json:"plan"`
	Claims int    `json:"claims"`
}

// String names the part.
func (s *Shard) String() string { return fmt.Sprintf("shard %d of %d", s.Index, s.Count) }

// Part is a run that was merged into another.
type Part struct {
	// Run is its ID.
	Run      string  `json:"run"`
	Shard    *Shard  `json:"shard,omitempty"`
	Outcome  Outcome `json:"outcome"`
	ExitCode int     `json:"exitCode"`
	Reason   string  `json:"reason,omitempty"`
	Seed     int64   `json:"seed"`
	Claims   int     `json:"claims"`
	Seconds  float64 `json:"seconds"`
}

// String names the part as people know it.
func (p Part) String() string {
	if p.Shard != nil {
		return p.Shard.String()
	}
	return "run " + p.Run
}
