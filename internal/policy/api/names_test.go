package api

import (
	"reflect"
	"testing"
)

func TestEveryDialectIsReadBackFromItsName(t *testing.T) {
	for _, d := range []Dialect{Documented(), Linkerd()} {
		got, err := ParseDialect(d.String())
		if err != nil || got != d {
			t.Errorf("%s is read back as %v, %v", d, got, err)
		}
	}
	if d, err := ParseDialect("custom"); err == nil {
		t.Errorf("custom is read as %v", d)
	}
	if got := (Dialect{DefaultFixedAtCreation: true}).String(); got != "custom" {
		t.Errorf("a mixture is called %s", got)
	}
}

// A field that is added and forgotten in Documented would silently be Linkerd's.
func TestTheDocumentedDialectSetsEveryField(t *testing.T) {
	documented := reflect.ValueOf(Documented())
	for i := range documented.NumField() {
		if !documented.Field(i).Bool() {
			t.Errorf("%s is not set", documented.Type().Field(i).Name)
		}
	}
}

func TestOnlyTheListedNamesAreValid(t *testing.T) {
	for _, name := range PolicyNames() {
		if !name.Valid() {
			t.Errorf("%s is refused", name)
		}
	}
	for _, name := range []PolicyName{"", "Deny", "allow", "all-unauthenticated "} {
		if name.Valid() {
			t.Errorf("%q is accepted", name)
		}
	}
	for _, name := range ProxyProtocols() {
		if !name.Valid() {
			t.Errorf("%s is refused", name)
		}
	}
	for _, name := range []ProxyProtocol{"", "http/1", "GRPC", "Opaque", "tls"} {
		if name.Valid() {
			t.Errorf("%q is accepted", name)
		}
	}
}
