package docker

import (
	"strings"
	"testing"
)

func TestStamped(t *testing.T) {
	for _, test := range []struct {
		keep bool
		want string
	}{{false, "one\ntwo words\nthree\n"}, {true, "2026-01-02T03:04:05.000000001Z one\n2026-01-02T03:04:05.100000000Z two words\n2026-01-02T03:04:05.200000000Z three\n"}} {
		var out strings.Builder
		s := &stamped{w: &out, keep: test.keep}
		messages := []string{"2026-01-02T03:04:05.000000001Z one\n", "2026-01-02T03:04:05.100000000Z two words\n", "2026-01-02T03:04:05.200000000Z three\n"}
		for i, m := range append(messages[:2:2], messages...) {
			if i == 2 { // what was missed is asked for from the last one seen
				s.seen = s.last
			}
			if n, err := s.Write([]byte(m)); n != len(m) || err != nil {
				t.Fatal(n, err)
			}
		}
		if out.String() != test.want {
			t.Errorf("got %q, want %q", out.String(), test.want)
		}
	}
}
