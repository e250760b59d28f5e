package load

import (
	"testing"
	"time"
)

func TestADurationIsKeptToWithinAHundredth(t *testing.T) {
	for d := time.Duration(1); d < time.Hour; d = d*3/2 + 1 {
		got := time.Duration(value(bucket(uint64(d))))
		if diff := (got - d).Abs(); diff*100 > d {
			t.Errorf("%v is kept as %v", d, got)
		}
	}
}

func TestTheMedianIsTheMiddleOne(t *testing.T) {
	var h histogram
	for i := range 101 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	if got, want := h.quantile(0.5), 50*time.Microsecond; (got - want).Abs() > want/100 {
		t.Errorf("%v, want %v", got, want)
	}
}
