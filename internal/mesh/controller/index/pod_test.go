package index

import (
	"reflect"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// A field that is forgotten would be a change that nobody is told of.
func TestPodSpecsThatDifferInAnyFieldAreNotEqual(t *testing.T) {
	whole := func() *PodSpec {
		return &PodSpec{
			UID: "a", Labels: map[string]string{"a": "b"}, Declared: map[uint16]bool{1: true}, Named: map[string][]uint16{"a": {1}},
			Probes: map[uint16][]string{1: {"/a"}}, DefaultPolicy: api.Deny, OpaquePorts: PortSet{{1, 2}}, IdentityPorts: PortSet{{3, 4}},
			Problems: Problems{{"a", "b"}},
		}
	}
	other := PodSpec{
		UID: "b", Labels: map[string]string{"a": "c"}, Declared: map[uint16]bool{2: true}, Named: map[string][]uint16{"a": {2}},
		Probes: map[uint16][]string{1: {"/b"}}, DefaultPolicy: api.Audit, OpaquePorts: PortSet{{1, 3}}, IdentityPorts: PortSet{{3, 5}},
		Problems: Problems{{"a", "c"}},
	}
	if !whole().equal(whole()) {
		t.Error("a spec is not equal to itself")
	}
	for i, fields := 0, reflect.TypeFor[PodSpec](); i < fields.NumField(); i++ {
		for what, value := range map[string]reflect.Value{"another": reflect.ValueOf(other).Field(i), "none": reflect.Zero(fields.Field(i).Type)} {
			if reflect.DeepEqual(value.Interface(), reflect.ValueOf(whole()).Elem().Field(i).Interface()) {
				t.Fatalf("%s: the test has nothing to tell apart", fields.Field(i).Name)
			}
			changed := whole()
			reflect.ValueOf(changed).Elem().Field(i).Set(value)
			if changed.equal(whole()) || whole().equal(changed) {
				t.Errorf("%s: %s in place of what was there goes unnoticed", fields.Field(i).Name, what)
			}
		}
	}
}
