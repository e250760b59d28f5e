package generate

import (
	"bytes"
	"testing"
)

func TestASeedAndANumberAreEnough(t *testing.T) {
	for index := range 20 {
		var texts [][]byte
		for range 2 {
			c, err := New(7, index)
			if err != nil {
				t.Fatal(err)
			}
			_, text, err := Plan(c.Scenario)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			texts = append(texts, text)
		}
		if !bytes.Equal(texts[0], texts[1]) {
			t.Errorf("number %d differs:\n%s\n%s", index, texts[0], texts[1])
		}
		if index < 2 {
			t.Logf("%s", texts[0])
		}
	}
}
