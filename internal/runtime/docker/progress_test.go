package docker

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// What Docker 20.10 sent of a build whose last step fails.
func TestRecordedBuild(t *testing.T) {
	file, err := os.Open("testdata/build-20.10.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var lines []string
	_, err = follow(t.Context(), file, func(line string) { lines = append(lines, line) })
	if err == nil || !strings.Contains(err.Error(), "exit code: 1") {
		t.Errorf("error %v", err)
	}
	want := []string{
		"Step 1/3 : FROM localhost/box:1",
		`Step 2/3 : RUN --mount=type=bind,from=localhost/m:1,source=/0,target=/host/ca ["/box","read","/host/ca"]`,
		"the host's CA",
		`Step 3/3 : RUN ["/box","read","/nowhere"]`,
		"box: open /nowhere: no such file or directory",
		"Error: executor failed running [/box read /nowhere]: exit code: 1",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// Lines that come in pieces are put together, and what is cut off is an error.
func TestProgress(t *testing.T) {
	var lines []string
	p := newProgress(func(line string) { lines = append(lines, line) })
	log := func(text string) []byte {
		return field(statusLogs, append(field(logVertex, []byte("d")), field(logMessage, []byte(text))...))
	}
	for _, text := range []string{"one\ntw", "o\r\n\nthr"} {
		if err := p.take(log(text)); err != nil {
			t.Fatal(err)
		}
	}
	ended := field(statusVertexes, append(field(vertexDigest, []byte("d")), field(vertexEnded, nil)...))
	if err := p.take(append([]byte{0x78, 5}, ended...)); err != nil { // a number that is not known
		t.Fatal(err)
	}
	if !slices.Equal(lines, []string{"one", "two", "thr"}) {
		t.Errorf("lines %q", lines)
	}
	for _, broken := range [][]byte{log("x")[:4], {0xff}, {0x78}} {
		if err := p.take(broken); err == nil {
			t.Errorf("%x was taken", broken)
		}
	}
}

// field is a short field of a protocol buffer.
func field(number int, value []byte) []byte {
	return append([]byte{byte(number<<3 | 2), byte(len(value))}, value...)
}

// Which images the builder could not get, and what is no more than their lack.
func TestLacking(t *testing.T) {
	const refused = "failed to do request: no such host"
	for _, test := range []struct {
		name, problem string
		syntax, image string
		logged        bool
	}{
		{"[internal] load metadata for docker.io/library/node:22", "no active sessions", "", "docker.io/library/node:22", false},
		{"[internal] load metadata for docker.io/library/node:22", refused, "", "", true},
		{"resolve image config for docker.io/docker/dockerfile:1", "no active sessions", "docker.io/docker/dockerfile:1", "docker.io/docker/dockerfile:1", false},
		{"resolve image config for docker-image://docker.io/docker/dockerfile:1", refused, "docker.io/docker/dockerfile:1", "", false},
		{"[1/2] FROM docker.io/library/node:22", "no active sessions", "", "", false},
		{"[2/2] RUN x", "exit code: 1", "", "", true},
	} {
		logged := false
		p := newProgress(func(line string) { logged = logged || strings.HasPrefix(line, "Error: ") })
		vertex := append(field(vertexDigest, []byte("d")), field(vertexName, []byte(test.name))...)
		if err := p.take(field(statusVertexes, append(vertex, field(vertexError, []byte(test.problem))...))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(p.lacks.unpulled, " "); got != test.image || p.lacks.syntax != test.syntax || logged != test.logged {
			t.Errorf("%s, %s: %q, %q, logged %t", test.name, test.problem, got, p.lacks.syntax, logged)
		}
	}
}
