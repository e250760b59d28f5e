package inbound

import "testing"

func TestDecisionsOfAnotherProcessAreToldByWhenTheyBegan(t *testing.T) {
	var first Decisions
	if began := first.List(DecisionFilter{}).Began; !began.IsZero() {
		t.Errorf("without a record they began at %s", began)
	}
	for range ringSize + 1 { // the first one is overwritten
		first.add(&note{})
	}
	list := first.List(DecisionFilter{})
	if list.Began.IsZero() || list.Began.After(list.Decisions[0].Time) {
		t.Errorf("they began at %s, and the oldest one is of %s", list.Began, list.Decisions[0].Time)
	}
	var second Decisions
	second.add(&note{})
	if began := second.List(DecisionFilter{}).Began; !began.After(list.Began) {
		t.Errorf("the second ones began at %s, the first ones at %s", began, list.Began)
	}
}
