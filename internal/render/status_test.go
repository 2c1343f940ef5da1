package render

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"
	"sigs.k8s.io/yaml"

	"github.com/sandbox-stack/sandbox/internal/event"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

var status = Status{
	Name: "web-app", Stack: "stacks/web-app/stack.yaml", Engine: "podman 4.3.1",
	State: event.StateFailed, Since: now.Add(-12 * time.Minute),
	Components: []event.Health{
		{Component: "release/web-app", State: event.StateFailed, Reason: "Deployment/web-app 1 of 3: CrashLoopBackOff", Blames: "aws/sqs", Try: "sandbox logs release/web-app", Since: now.Add(-100 * time.Second), URL: "http://127.0.0.1:8080"},
		{Component: "release/web-app/Deployment/web-app", State: event.StateDegraded, Reason: "1 of 3 ready: back-off 40s restarting failed container=web-app pod=web-app-6f8b9c7d5-abcde_production", Since: now.Add(-100 * time.Second)},
		{Component: "cluster", State: event.StateOK, Reason: "1 of 1 nodes ready", Since: now.Add(-11 * time.Minute)},
		{Component: "cluster/node/sandbox-web-app-control-plane", State: event.StateOK, Since: now.Add(-11 * time.Minute)},
		{Component: "aws", State: event.StateOK, Reason: "7 services", URL: "http://127.0.0.1:4566", Since: now.Add(-3 * time.Hour)},
		{Component: "aws/s3", State: event.StateOK},
		{Component: "aws/sqs", State: event.StateStale, Reason: "no answer within 3s; was ok", Since: now.Add(-4 * time.Second)},
		{Component: "observe/prometheus", State: event.StateOK, Reason: "9 of 9 targets up", URL: "http://127.0.0.1:9090", Since: now.Add(-11 * time.Minute)},
		{Component: "observe/rules", State: event.StateOK, Reason: "6 loaded, firing: WebAppDown", URL: "http://127.0.0.1:9090/alerts"},
		{Component: "observe/alertmanager", State: event.StateWorking, Reason: "not ready: connection refused", Since: now.Add(-2 * time.Second)},
		{Component: "observe/grafana", State: event.StateOff, Reason: "image unavailable: no registry can be reached, and no package has it"},
		{Component: "terraform/infra", State: event.StateWaiting, Reason: "\x1b]0;owned\x07aws\r\nnot there yet", Since: now.Add(-72 * time.Hour)},
	},
}

func TestStatusTable(t *testing.T) {
	for name, style := range map[string]Style{
		"pipe":       {},
		"160 colour": {Color: true, Width: 160},
		"100":        {Width: 100},
		"80 ascii":   {Width: 80, ASCII: true},
		"60":         {Width: 60},
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			if err := WriteStatus(&buf, status, FormatTable, style, now); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(buf.String()) {
				if w := ansi.StringWidth(strings.TrimSuffix(line, "\n")); style.Width > 0 && w > style.Width {
					t.Errorf("%d columns, more than %d: %q", w, style.Width, line)
				}
				if style.ASCII && strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
					t.Errorf("not ASCII: %q", line)
				}
			}
			golden.RequireEqual(t, buf.String())
		})
	}
}

func TestStatusData(t *testing.T) {
	for format, decode := range map[Format]func([]byte, any) error{
		FormatJSON: json.Unmarshal,
		FormatYAML: func(b []byte, v any) error { return yaml.UnmarshalStrict(b, v) },
	} {
		var buf bytes.Buffer
		if err := WriteStatus(&buf, status, format, Style{Color: true}, now); err != nil {
			t.Fatal(err)
		}
		var got Status
		if err := decode(buf.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v\n%s", format, err, buf.String())
		}
		if got.Name != status.Name || len(got.Components) != len(status.Components) || got.Components[0] != status.Components[0] {
			t.Errorf("%s: read back %+v", format, got)
		}
		buf.Reset()
		if err := WriteStatusList(&buf, nil, format, Style{}, now); err != nil {
			t.Fatal(err)
		}
		var none []Status
		if err := decode(buf.Bytes(), &none); err != nil || none == nil || len(none) != 0 {
			t.Errorf("%s of no sandbox is not an empty list: %v: %s", format, err, buf.String())
		}
	}
	if err := WriteStatus(&bytes.Buffer{}, status, "xml", Style{}, now); err == nil {
		t.Error("an unknown format was accepted")
	}
}

func TestProblem(t *testing.T) {
	for name, style := range map[string]Style{"plain": {}, "colour": {Color: true}, "ascii": {ASCII: true}} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			if err := WriteProblem(&buf, failure, style); err != nil {
				t.Fatal(err)
			}
			golden.RequireEqual(t, buf.String())
		})
	}
}

func TestDetect(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	file, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := Detect(file, ColorAuto, false, env()); got != (Style{}) {
		t.Errorf("a file got %+v, want no colour and no width", got)
	}
	if got := Detect(&bytes.Buffer{}, ColorAlways, true, env("NO_COLOR", "1")); got != (Style{Color: true, ASCII: true}) {
		t.Errorf("--color always got %+v, want colour", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                  "0.0s",
		0:                             "0.0s",
		440 * ms:                      "0.4s",
		12340 * ms:                    "12.3s",
		59940 * ms:                    "59.9s",
		59960 * ms:                    "1m00s",
		64 * time.Second:              "1m04s",
		59*time.Minute + 59600*ms:     "1h00m",
		2*time.Hour + 5*time.Minute:   "2h05m",
		26*time.Hour + 59*time.Minute: "26h59m",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%s) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m", 47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestAmount(t *testing.T) {
	for _, tc := range []struct {
		p    event.Progress
		want string
	}{
		{event.Progress{}, ""},
		{event.Progress{Done: 3, Total: 7, Unit: "objects"}, "3 of 7 objects"},
		{event.Progress{Done: 3}, "3"},
		{event.Progress{Done: 12e6, Total: 40.5e6, Unit: "bytes"}, "12.0 of 40.5 MB"},
		{event.Progress{Done: 1e6, Unit: "bytes"}, "1.0 MB"},
		{event.Progress{Unit: "bytes"}, ""},
	} {
		if got := amount(tc.p); got != tc.want {
			t.Errorf("amount(%+v) = %q, want %q", tc.p, got, tc.want)
		}
	}
}

func TestStatusList(t *testing.T) {
	small := Status{Name: "minimal", State: event.StateOK, Components: []event.Health{{Component: "cluster", State: event.StateOK}}}
	var buf bytes.Buffer
	if err := WriteStatusList(&buf, []Status{small, {Name: "empty", State: event.StateStale}}, FormatTable, Style{}, now); err != nil {
		t.Fatal(err)
	}
	golden.RequireEqual(t, buf.String())
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		text  string
		width int
		want  []string
	}{
		{"fits", 10, []string{"fits"}},
		{"one two three", 5, []string{"one two three"}}, // too narrow to be read
		{"one two three four", 10, []string{"one two", "three four"}},
		{"at http://127.0.0.1:9090 now", 22, []string{"at", "http://127.0.0.1:9090", "now"}},
		{"abcdefghijklmnopqrstuvwxyz end", 10, []string{"abcdefghij", "klmnopqrst", "uvwxyz end"}},
		{"日本語のテキスト です", 10, []string{"日本語のテ", "キスト", "です"}},
	} {
		if got := wrap(tc.text, tc.width); !slices.Equal(got, tc.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", tc.text, tc.width, got, tc.want)
		}
	}
}
