package tui

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// hostile is text that breaks screens.
var hostile = []string{
	"\x1b[2J\x1b[H\x1b]0;owned\x07\x1b[?1049l gone", "\u009b31m C1", "\r\n\v\f\b\b\b", "a\tb\tc",
	"日本語のログ行がここにあります", "e\u0301\u0301\u0301\u0301\u0301\u0301 zalgo Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
	"👩‍👩‍👧‍👦 family 👍🏽 🇩🇪 ❤️ ☕ ✔️", "\u202eright to left\u202c \u200b\u200d\ufeff\u2060", "क्षि नमस्ते ตัวอักษร 한국어 ᄒ\u1161\u11ab",
	"\xff\xfe\x80 not UTF-8", strings.Repeat("long ", 5000), "\x00\x01 nul", "a\u00adb soft", "﷽ wide",
}

// Whatever components, logs, events and alerts say, a frame has its size and
// no control sequence that is not its own.
func TestHostileTextCannotBreakTheScreen(t *testing.T) {
	d := newDash(t)
	for i, h := range hostile {
		d.emit(event.Envelope{HealthChanged: &event.HealthChanged{Health: event.Health{Component: "release/web/" + h, State: event.StateFailed, Reason: h, Blames: h, Try: h, URL: h}}})
		d.emit(event.Envelope{LogLine: &event.LogLine{Component: "release/web/" + h, Source: h, Line: h + h}})
		d.emit(event.Envelope{ObjectEvent: &event.ObjectEvent{Object: h, Source: h, Reason: h, Message: h, Namespace: h}})
		d.emit(event.Envelope{AlertChanged: &event.AlertChanged{Rule: h, State: h, Value: h, Labels: map[string]string{h: h}}})
		d.emit(event.Envelope{StepStarted: &event.StepStarted{ID: h}})
		d.emit(event.Envelope{StepLog: &event.StepLog{ID: h, Source: h, Line: h}})
		d.emit(event.Envelope{ResourceSample: &event.ResourceSample{Component: "release/web/" + h, CPU: -1, Memory: -1 << 60}})
		d.emit(event.Envelope{StepProgress: &event.StepProgress{ID: h, Progress: event.Progress{Text: h, Done: int64(i) * 7, Total: 3, Blockers: []string{h}}}})
		d.emit(event.Envelope{ModuleChanged: &event.ModuleChanged{Module: h, Tool: h, Resources: []event.Resource{{Address: h, Type: h, State: event.ResourceDrift, Detail: h + "\n" + h}}}})
	}
	d.emit(event.Envelope{AlertmanagerChanged: &event.AlertmanagerChanged{Receivers: hostile}})
	d.look()
	check := func() {
		t.Helper()
		d.dirty = true
		frame := d.View().Content
		requireFits(t, frame, d.w, d.h)
		assert.NotRegexp(t, `\x1b[^\[]|\x1b\[[^m]*[^0-9;m]`, frame)
		assert.NotRegexp(t, "[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f\u0080-\u009f\u202e\u200d]", frame)
	}
	for _, size := range [][2]int{{60, 12}, {100, 30}, {161, 50}} {
		d.resize(size[0], size[1])
		for s := range screens {
			d.leaveTo(s)
			for range 12 {
				d.want(moveDown)
				check()
				d.want(open)
				check()
				d.want(back)
			}
		}
		d.leaveTo(logsScreen)
		for range 10 {
			d.want(wrapLines, moveUp)
			check()
			d.want(foldOut)
			check()
		}
		for _, h := range hostile {
			d.setFilter(h[:min(len(h), d.prompt.input.CharLimit)])
			check()
		}
		d.setFilter("")
	}
}

func FuzzLine(f *testing.F) {
	for _, h := range hostile {
		f.Add(h, 20)
	}
	f.Fuzz(func(t *testing.T, text string, w int) {
		w = max(0, min(w, 300))
		for _, th := range []theme{{}, {ascii: true}} {
			requireFits(t, th.line(w, false, plain(text), plain(text)), w, 1)
			requireFits(t, th.fill(text, w), w, 1)
			requireFits(t, th.squeeze(text, w), w, 1)
			whole := th.text(text)
			assert.Equal(t, whole, strings.Join(chunks(whole, w), ""))
			assert.LessOrEqual(t, width(skip(whole, w)), width(whole))
			for _, l := range th.wrap(text, w) {
				assert.LessOrEqual(t, width(l), max(w, 2))
			}
		}
	})
}

func TestClipShowsThatSomethingIsCut(t *testing.T) {
	u, a := theme{}, theme{ascii: true}
	assert.Equal(t, "abc…", u.clip("abcdef", 4))
	assert.Equal(t, "ab..", a.clip("abcdef", 4))
	assert.Equal(t, "abcd", u.clip("abcd  ", 4))
	assert.Equal(t, "日…", u.clip("日本語", 4))
	assert.Equal(t, "web-app…xzq9kk", u.squeeze("web-app-6f8b9c7d5-xzq9kk", 14))
	assert.Equal(t, "abc…", u.line(4, false, plain("abc"), plain("def")), "what follows is lost too")
}

func TestFigures(t *testing.T) {
	for want, got := range map[string]string{
		"0.4s": duration(400 * time.Millisecond), "1m04s": duration(64 * time.Second), "2h05m": duration(125 * time.Minute),
		"12s": age(dawn.Add(12*time.Second), dawn), "3d": age(dawn.Add(80*time.Hour), dawn), "-": age(dawn, time.Time{}),
		"250m": cores(0.25), "1.5": cores(1.5), "1.0": cores(0.9999),
		"540M": memory(540 << 20), "1.9G": memory(1945 << 20), "12K": memory(12 << 10),
		"3 of 7 objects":     amount(event.Progress{Done: 3, Total: 7, Unit: "objects"}),
		"12.0 of 40.5 MB":    amount(event.Progress{Done: 12e6, Total: 405e5, Unit: "bytes"}),
		"5 packages":         amount(event.Progress{Done: 5, Unit: "packages"}),
		"":                   amount(event.Progress{Text: "waiting"}),
		" ▁▅█":               theme{}.spark([]float64{0, 1, 2}, 4, 0),
		"  _#":               theme{ascii: true}.spark([]float64{0, 9}, 4, 1),
		"▁▁":                 theme{}.spark([]float64{0, 0.001, 0.002}, 2, cpuFloor),
		"█████░░░░░":         theme{}.bar(1, 2, 10),
		"##########":         theme{ascii: true}.bar(9, 2, 10),
		"deploy/a and svc/b": shortName("Deployment/a and Service/b"),
	} {
		assert.Equal(t, want, got)
	}
}

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "x", true},
		{"!", "x", true},
		{"err", "an ERROR", true},
		{"Err", "an ERROR", false},
		{"ERROR|WARN", "a WARN", true},
		{"err|warn", "a WARN", true},
		{"err|", "x", true},
		{"e.r", "an ERROR", true},
		{"ä", "Ä", true},
		{"!err", "an ERROR", false},
		{"!err", "fine", true},
		{"a[", "see a[0]", true},
		{"a[", "see b", false},
	} {
		assert.Equal(t, tc.want, parsePattern(tc.pattern).match(tc.text), "%q in %q", tc.pattern, tc.text)
	}
}
