package intercept

import (
	"reflect"
	"testing"
)

func TestPortListsAreReadStrictly(t *testing.T) {
	for text, want := range map[string][]PortRange{
		"":                    nil,
		"25":                  {{25, 25}},
		"4190,4191,4567-4568": {{4190, 4190}, {4191, 4191}, {4567, 4568}},
		" 1 , 65535,":         {{1, 1}, {65535, 65535}},
		"1-65535":             {{1, 65535}},
	} {
		got, err := ParsePorts(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParsePorts(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "65536", "-1", "http", "10-9", "1-", "1-2-3", "0x50", "1 2", "+1"} {
		if got, err := ParsePorts(text); err == nil {
			t.Errorf("ParsePorts(%q) = %v, want an error", text, got)
		}
	}
}

func TestFlagsCarryLinkerdsNames(t *testing.T) {
	got, err := parseFlags([]string{"--incoming-proxy-port", "4143", "--outgoing-proxy-port", "4140", "--proxy-uid", "2102",
		"--inbound-ports-to-ignore", "4190,4191,4567,4568", "--outbound-ports-to-ignore", "4567,4568"})
	want := Rules{InboundPort: 4143, OutboundPort: 4140, ProxyUID: 2102,
		SkipInbound: []PortRange{{4190, 4190}, {4191, 4191}, {4567, 4567}, {4568, 4568}}, SkipOutbound: []PortRange{{4567, 4567}, {4568, 4568}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := parseFlags([]string{"--proxy-mark", "0x10"}); err != nil || got.ProxyMark != 16 {
		t.Errorf("mark in hexadecimal: %+v, %v", got, err)
	}
	for _, args := range [][]string{
		{"--incoming-proxy-port", "0"}, {"--outgoing-proxy-port", "65536"}, {"--proxy-uid", "-1"},
		{"--inbound-ports-to-ignore", "http"}, {"--unknown"}, {"extra"},
	} {
		if got, err := parseFlags(args); err == nil {
			t.Errorf("%v gave %+v, want an error", args, got)
		}
	}
}

func TestRulesThatWouldLoopAreRefused(t *testing.T) {
	if err := Apply(Rules{}); err == nil {
		t.Error("no exemption for the proxy was accepted")
	}
}
