package policy

import (
	"net/netip"
	"testing"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// permitted tells whether a list of this one authorization permits the client.
func permitted(a Authz, c Client, d Dialect) bool { return newGrants([]Authz{a}).first(c, d) == 0 }

// named tells whether an authorization of these clients, wherever they are, permits the client.
func named(w who, c Client, d Dialect) bool {
	c.Addr = from("10.0.0.1").Addr
	return permitted(Authz{who: w, networks: everywhere}, c, d)
}

func TestNetworkHoldsBetweenItsBordersButNotInItsExcepts(t *testing.T) {
	n := Network{Net: netip.MustParsePrefix("10.1.0.0/16"), Except: prefixes("10.1.2.0/24", "10.1.3.7/32")}
	for addr, want := range map[string]bool{
		"10.0.255.255": false, "10.1.0.0": true, "10.1.255.255": true, "10.2.0.0": false,
		"10.1.1.255": true, "10.1.2.0": false, "10.1.2.128": false, "10.1.2.255": false, "10.1.3.0": true,
		"10.1.3.6": true, "10.1.3.7": false, "10.1.3.8": true,
		"fd00::1": false,
	} {
		if got := permitted(Authz{who: who{anyone: true}, networks: []Network{n}}, from(addr), Dialect{}); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestExceptsCountForTheirOwnEntryOnly(t *testing.T) {
	a := Authz{who: who{anyone: true}, networks: []Network{
		{Net: netip.MustParsePrefix("10.0.0.0/8"), Except: prefixes("10.1.0.0/16")},
		{Net: netip.MustParsePrefix("10.1.2.0/24")},
	}}
	for addr, want := range map[string]bool{"10.1.1.1": false, "10.1.2.1": true, "10.2.0.1": true, "11.0.0.1": false} {
		if got := permitted(a, from(addr), Dialect{}); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestMappedAddressesCountAsIPv4(t *testing.T) {
	a := Authz{who: who{anyone: true}, networks: []Network{{Net: netip.MustParsePrefix("10.0.0.0/8")}}}
	for addr, want := range map[string]bool{"::ffff:10.0.0.1": true, "::ffff:11.0.0.1": false, "::10.0.0.1": false} {
		if got := permitted(a, from(addr), Dialect{}); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestIdentitiesMatchExactlyOrAtALabelBorder(t *testing.T) {
	const ns = "ns.serviceaccount.identity.linkerd.cluster.local"
	exact := who{exact: map[string]struct{}{"web." + ns: {}}}
	suffix := who{suffixes: []string{"." + ns}}
	any := who{any: true}
	spiffe := "spiffe://cluster.local/web." + ns
	type key struct {
		who *who
		id  string
	}
	for k, want := range map[key]bool{
		{&exact, "web." + ns}: true, {&exact, "Web." + ns}: false, {&exact, "web." + ns + "."}: false,
		{&exact, "xweb." + ns}: false, {&exact, ""}: false, {&exact, "web"}: false,
		{&suffix, "web." + ns}: true, {&suffix, "a.b." + ns}: true, {&suffix, "web.evil" + ns}: false,
		{&suffix, ns}: false, {&suffix, "." + ns}: false, {&suffix, "web." + ns + ".evil"}: false, {&suffix, ""}: false,
		{&suffix, spiffe}:   false,
		{&any, "web." + ns}: true, {&any, "x"}: true, {&any, ""}: false, {&any, spiffe}: true,
	} {
		c := Client{TLS: Terminated, Identity: k.id}
		if got := named(*k.who, c, Dialect{}); got != want {
			t.Errorf("%+v, %q: got %v, want %v", *k.who, k.id, got, want)
		}
	}
	if named(any, Client{TLS: Terminated, Identity: spiffe}, Linkerd) {
		t.Error("dialect linkerd: any identity must not cover SPIFFE")
	}
}

// Only a terminated session has an identity, whatever a caller filled in.
func TestOnlyTerminatedSessionsAreAuthenticated(t *testing.T) {
	kinds := map[string]who{
		"anyone": {anyone: true}, "any TLS": {anyTLS: true}, "any identity": {any: true},
		"exact": {exact: map[string]struct{}{"a.b": {}}}, "suffix": {suffixes: []string{".b"}},
	}
	for _, state := range TLSStates {
		for name, w := range kinds {
			want := name == "anyone" || state == Terminated
			if got := named(w, Client{TLS: state, Identity: "a.b"}, Dialect{}); got != want {
				t.Errorf("%s, TLS state %d: got %v, want %v", name, state, got, want)
			}
		}
		if got := named(kinds["any TLS"], Client{TLS: state}, Dialect{}); got != (state == Terminated) {
			t.Errorf("any TLS without identity, state %d: got %v", state, got)
		}
	}
}
