package clients

import "testing"

func TestAnHTTP2AnswerBeginsWithSettingsOfTheConnection(t *testing.T) {
	for began, want := range map[string]bool{
		"":                                     true, // nothing has come yet
		"\x00\x00\x12":                         true,
		"\x00\x00\x12\x04":                     true,
		"\x00\x00\x12\x04\x00\x00\x00\x00\x00": true,
		"\x00\x00\x12\x04\x00\x00\x00\x00\x01": false, // of a stream
		"\x00\x00\x12\x06\x00\x00\x00\x00\x00": false, // a ping
		"HTTP/1.1 ":                            false,
		"id\n":                                 true, // too little to tell
		"hello":                                false,
	} {
		if got := speaksHTTP2([]byte(began)); got != want {
			t.Errorf("%q: %t, want %t", began, got, want)
		}
	}
	for began, want := range map[string]bool{"": true, "HT": true, "HTTP/": true, "HTTP/1.1 ": true, "HTTP\x00": false, "\x00\x00\x12\x04\x00\x00\x00\x00\x00": false} {
		if got := speaksHTTP1([]byte(began)); got != want {
			t.Errorf("%q as HTTP/1: %t, want %t", began, got, want)
		}
	}
}
