package engine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// What has failed is told at the end of a log, however long it is.
func TestOfALongLogTheEndIsKept(t *testing.T) {
	var log strings.Builder
	line := 0
	for ; log.Len() < 3*logLimit/2; line++ {
		fmt.Fprintf(&log, "line %06d %s\n", line, strings.Repeat("x", 400))
	}
	kept := lastOf(strings.NewReader(log.String()))
	last := fmt.Sprintf("line %06d ", line-1)
	lines := bytes.Split(bytes.TrimSuffix(kept, []byte("\n")), []byte("\n"))
	if len(kept) > logLimit || len(kept) < logLimit-1000 || !bytes.HasPrefix(lines[len(lines)-1], []byte(last)) || !bytes.HasPrefix(lines[0], []byte("line ")) {
		t.Errorf("%d bytes are kept, from %.12s to %.12s; want the end, %s", len(kept), lines[0], lines[len(lines)-1], last)
	}
	if short := lastOf(strings.NewReader("one\ntwo\n")); string(short) != "one\ntwo\n" {
		t.Errorf("of a short log %q is kept", short)
	}
}
