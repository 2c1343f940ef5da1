package podman

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func frame(channel byte, text string) string {
	return string([]byte{channel, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func TestDemux(t *testing.T) {
	var stdout, stderr bytes.Buffer
	long := strings.Repeat("x", 5000)
	stream := frame(1, "out ") + frame(2, "err") + frame(1, "") + frame(0, long)
	if err := demux(strings.NewReader(stream), &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "out "+long || stderr.String() != "err" {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
	if err := demux(strings.NewReader(stream), nil, nil); err != nil {
		t.Errorf("discarding: %v", err)
	}
}

func TestDemuxErrors(t *testing.T) {
	for name, test := range map[string]struct{ stream, want string }{
		"of the service":  {frame(1, "x") + frame(3, "it broke"), "it broke"},
		"unknown channel": {frame(9, "x"), "channel 9"},
		"cut header":      {frame(1, "x") + "\x01\x00", "EOF"},
		"cut frame":       {frame(1, "hello")[:10], "EOF"},
	} {
		if err := demux(strings.NewReader(test.stream), io.Discard, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
