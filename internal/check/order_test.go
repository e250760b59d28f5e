package check_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/meshproof/meshproof/internal/check"
)

// Histories are written as what each request fits: version 0 denies, 1 allows.
var old, fresh, either, neither = check.Of(0), check.Of(1), check.All(), check.Of()

// oneWrite is a history with one write from 10 to 12 and a budget of 5.
func oneWrite(requests ...check.Request) check.History {
	return check.History{Writes: []check.Write{{Call: 10, Ack: 12}}, Budget: 5, Requests: requests}
}

func request(call, back time.Duration, fits check.Versions) check.Request {
	return check.Request{Call: call, Return: back, Fits: fits}
}

func TestARequestIsExplainedByAVersionThatWasThere(t *testing.T) {
	for name, one := range map[string]struct {
		history check.History
		want    []check.Finding
	}{
		"nothing happened": {history: check.History{}},
		"old before, new after": {history: oneWrite(
			request(1, 2, old), request(20, 21, fresh))},
		"either while the write is under way": {history: oneWrite(
			request(9, 11, old), request(9, 11, fresh))},
		"old until the budget is spent": {history: oneWrite(
			request(17, 18, old), request(18, 19, fresh))},
		"the new policy before anybody wrote it": {
			history: oneWrite(request(1, 2, fresh)),
			want:    []check.Finding{{Request: 0, Kind: check.Impossible, AtLeast: 0, AtMost: 0}}},
		"an answer of no policy at all": {
			history: oneWrite(request(1, 2, old), request(11, 12, neither)),
			want:    []check.Finding{{Request: 1, Kind: check.Impossible, AtLeast: 0, AtMost: 1}}},
		"old after new": {
			history: oneWrite(request(11, 12, fresh), request(13, 14, old)),
			want:    []check.Finding{{Request: 1, Kind: check.Backwards, AtLeast: 1, AtMost: 1}}},
		"old beside new, while both are under way": {history: oneWrite(
			request(11, 14, fresh), request(13, 14, old))},
		"old after the budget": {
			history: oneWrite(request(18, 19, old)),
			want:    []check.Finding{{Request: 0, Kind: check.Stale, AtLeast: 1, AtMost: 1}}},
		"a request that says nothing": {history: oneWrite(
			request(1, 2, either), request(30, 31, either))},
		"one that nothing explains does not condemn the others": {
			history: oneWrite(request(1, 2, fresh), request(3, 4, old), request(30, 31, fresh)),
			want:    []check.Finding{{Request: 0, Kind: check.Impossible, AtLeast: 0, AtMost: 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := one.history.Order(); !slices.Equal(got, one.want) {
				t.Errorf("findings are %+v, want %+v", got, one.want)
			}
		})
	}
}

func TestTheBudgetDoesNotRunWhileAProxyCannotBeTold(t *testing.T) {
	history := oneWrite(request(30, 31, old))
	history.Suspended = []check.Interval{{From: 13, To: 40}}
	if got := history.Order(); len(got) != 0 {
		t.Errorf("while the stream is cut the old policy is right: %+v", got)
	}
	history.Requests = []check.Request{request(44, 45, old), request(45, 46, old)}
	want := []check.Finding{{Request: 1, Kind: check.Stale, AtLeast: 1, AtMost: 1}}
	if got := history.Order(); !slices.Equal(got, want) {
		t.Errorf("four of the budget were left after the cut: %+v, want %+v", got, want)
	}
	history.Budget = check.Unlimited
	if got := history.Order(); len(got) != 0 {
		t.Errorf("without a budget nothing is stale: %+v", got)
	}
}

func TestWhatIsKnownToBeInForceIsNotWaitedForAnyLonger(t *testing.T) {
	two := check.History{Writes: []check.Write{{Call: 10, Ack: 12}, {Call: 20, Ack: 22, InForce: 25}}, Budget: 50,
		Requests: []check.Request{request(24, 26, check.Of(0)), request(26, 27, check.Of(2)), request(27, 28, check.Of(1))}}
	want := []check.Finding{{Request: 2, Kind: check.Stale, AtLeast: 2, AtMost: 2}}
	if got := two.Order(); !slices.Equal(got, want) {
		t.Errorf("findings are %+v, want %+v", got, want)
	}
	two.Budget = check.Unlimited
	if got := two.Order(); !slices.Equal(got, want) {
		t.Errorf("without a budget they are %+v, want %+v", got, want)
	}
	// The cut of a connection follows, and has the budget of the write.
	held := check.Held{Opened: 1, Alive: 30, Fits: check.Of(0)}
	if got := two.Hold(held); got.Kind != "" {
		t.Errorf("a connection that is just being cut: %+v", got)
	}
}

func TestABracketIsAsWideAsTheRequestsAreApart(t *testing.T) {
	history := oneWrite(request(1, 2, old), request(11, 12, old), request(13, 14, either), request(15, 16, fresh), request(20, 21, fresh))
	want := []check.Bracket{{Version: 1, LastOld: 11, FirstNew: 16, Seen: true, Informative: 2}}
	if got := history.Brackets(); !slices.Equal(got, want) {
		t.Errorf("brackets are %+v, want %+v", got, want)
	}
}

func TestAnAnswerThatComesBackTellsOfItsOwnVersion(t *testing.T) {
	there, gone := check.Of(0, 2), check.Of(1)
	history := check.History{Writes: []check.Write{{Call: 10, Ack: 11}, {Call: 20, Ack: 21}}, Budget: 30, Requests: []check.Request{
		request(9, 10, there), request(12, 13, there), request(14, 15, gone), request(22, 23, gone), request(24, 26, there)}}
	want := []check.Bracket{{Version: 1, LastOld: 12, FirstNew: 15, Seen: true, Informative: 3}, {Version: 2, LastOld: 22, FirstNew: 26, Seen: true, Informative: 2}}
	if got := history.Brackets(); !slices.Equal(got, want) {
		t.Errorf("brackets are %+v, want %+v", got, want)
	}
	_, spans := history.Explain()
	late := history.BracketsOf(spans, func(request int) bool { return request > 2 })
	if late[0].Seen || late[1].FirstNew != 26 {
		t.Errorf("the requests kept tell nothing of the first version: %+v", late)
	}
}

func TestWhoseProxyIsUnknownIsHeldAgainstBudgetsAndNotAgainstOrder(t *testing.T) {
	elsewhere := func(call, back time.Duration, fits check.Versions) check.Request {
		return check.Request{Call: call, Return: back, Fits: fits, Elsewhere: true}
	}
	history := oneWrite(elsewhere(11, 12, fresh), elsewhere(13, 14, old), elsewhere(18, 19, old), elsewhere(1, 2, fresh), elsewhere(20, 21, neither), request(15, 16, old))
	want := []check.Finding{
		{Request: 3, Kind: check.Impossible, AtLeast: 0, AtMost: 0},
		{Request: 2, Kind: check.Stale, AtLeast: 1, AtMost: 1},
		{Request: 4, Kind: check.Impossible, AtLeast: 1, AtMost: 1},
	}
	if got := history.Order(); !slices.Equal(got, want) {
		t.Errorf("findings are %+v, want %+v", got, want)
	}
}

// TestASecondOpinion puts small random histories to a checker that searches, and
// that somebody else has written.
func TestASecondOpinion(t *testing.T) {
	const rounds = 20_000
	dice := rand.New(rand.NewPCG(1, 2))
	agreed := map[bool]int{}
	for range rounds {
		h := random(dice)
		ours := len(h.Order()) == 0
		if theirs := linearizable(h); ours != theirs {
			t.Fatalf("consistent: %v, and by search: %v: %+v", ours, theirs, h)
		}
		agreed[ours]++
	}
	if agreed[true] < rounds/10 || agreed[false] < rounds/10 {
		t.Errorf("%v: the histories are too much alike to tell anything", agreed)
	}
}

func random(dice *rand.Rand) check.History {
	h := check.History{Budget: time.Duration(dice.IntN(6))}
	at := time.Duration(0)
	for range dice.IntN(4) {
		at += time.Duration(dice.IntN(5))
		w := check.Write{Call: at, Ack: at + time.Duration(dice.IntN(3))}
		at = w.Ack + 1
		h.Writes = append(h.Writes, w)
	}
	for range 1 + dice.IntN(6) {
		call := time.Duration(dice.IntN(20))
		fits := check.Of()
		switch dice.IntN(4) {
		case 0:
			fits = check.Of(dice.IntN(4))
		case 1:
			fits = check.Of(dice.IntN(4), dice.IntN(4))
		case 2:
			fits = check.Of(0, dice.IntN(4))
		case 3:
			fits = check.All()
		}
		h.Requests = append(h.Requests, check.Request{Call: call, Return: call + time.Duration(dice.IntN(6)), Fits: fits})
	}
	return h
}

// linearizable asks whether the history is one of a counter: writes raise it in
// their order between their call and their due time, requests read it.
func linearizable(h check.History) bool {
	type switching struct{ to int }
	model := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, _ any) (bool, any) {
			switch in := input.(type) {
			case switching:
				return state.(int) == in.to-1, in.to
			case check.Versions:
				return in.Contains(state.(int)), state
			}
			panic("an operation is either")
		},
	}
	var operations []porcupine.Operation
	due := time.Duration(0)
	for i, w := range h.Writes {
		due = max(due, w.Ack+h.Budget)
		operations = append(operations, porcupine.Operation{ClientId: len(operations), Input: switching{i + 1}, Call: int64(w.Call), Return: int64(due)})
	}
	for _, r := range h.Requests {
		operations = append(operations, porcupine.Operation{ClientId: len(operations), Input: r.Fits, Call: int64(r.Call), Return: int64(r.Return)})
	}
	return porcupine.CheckOperations(model, operations)
}

// BenchmarkOrder judges 100,000 requests of 32 streams across 20 writes.
func BenchmarkOrder(b *testing.B) {
	const requests, writes, streams = 100_000, 20, 32
	h := check.History{Budget: time.Second}
	for i := range writes {
		at := time.Duration(i+1) * 10 * time.Second
		h.Writes = append(h.Writes, check.Write{Call: at, Ack: at + 20*time.Millisecond})
	}
	span := time.Duration(writes+1) * 10 * time.Second
	for i := range requests {
		call := span * time.Duration(i/streams) / time.Duration(requests/streams)
		version := 0
		for version < writes && h.Writes[version].Call < call {
			version++
		}
		fits := make([]int, 0, writes)
		for v := version % 2; v <= writes; v += 2 {
			fits = append(fits, v)
		}
		h.Requests = append(h.Requests, check.Request{Call: call, Return: call + 3*time.Millisecond, Fits: check.Of(fits...)})
	}
	for b.Loop() {
		if got := h.Order(); len(got) != 0 {
			b.Fatalf("%d findings, the first %+v", len(got), got[0])
		}
	}
}
