package tui

import (
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sizes are those that frames are recorded at: the smallest usual terminal,
// the least with two panes, and a large one.
var sizes = [][2]int{{80, 24}, {100, 30}, {160, 45}}

// views are the ways to a frame worth a look, by intents alone, so that they
// fit any recording.
var views = []struct {
	name string
	path []intent
}{
	{"1-overview", nil},
	{"1-overview-detail", []intent{open}},
	{"2-steps", []intent{goSteps}},
	{"2-steps-detail", []intent{goSteps, moveDown, open}},
	{"3-logs", []intent{goLogs}},
	{"3-logs-not-wrapped", []intent{goLogs, wrapLines, mark}},
	{"3-logs-of-the-worst", []intent{showLogs}},
	{"4-alerts", []intent{goAlerts}},
	{"4-alerts-detail", []intent{goAlerts, open}},
	{"5-events", []intent{goEvents}},
	{"5-events-warnings", []intent{goEvents, onlyWarnings, moveDown}},
	{"6-terraform", []intent{goTerraform}},
	{"6-terraform-resource", []intent{goTerraform, moveDown, moveDown, open}},
	{"7-help", []intent{help}},
	{"8-sources", []intent{goLogs, chooseSource}},
	{"9-full-screen", []intent{fullScreen}},
}

func TestFrames(t *testing.T) {
	feed := replay(t, recording)
	for _, style := range []string{"color", "ascii"} {
		for _, size := range sizes {
			for _, v := range views {
				name := fmt.Sprintf("%dx%d-%s/%s", size[0], size[1], style, v.name)
				t.Run(name, func(t *testing.T) {
					frame := frameAt(t, feed, style, size, v.path)
					golden.RequireEqual(t, frame)
				})
			}
		}
	}
}

// On a screen that is small a frame is less, but never refused.
func TestSmallFrames(t *testing.T) {
	feed := replay(t, recording)
	for _, size := range [][2]int{{60, 12}, {80, 12}, {60, 24}, {40, 8}, {10, 1}} {
		for _, v := range views[:1] {
			t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
				golden.RequireEqual(t, frameAt(t, feed, "ascii", size, v.path))
			})
		}
	}
}

// frameAt draws a frame and makes sure that it is exactly as large as it
// should be, and that it keeps to the style.
func frameAt(t *testing.T, feed *Feed, style string, size [2]int, path []intent) string {
	t.Helper()
	return frameOf(t, feed, &fakeActions{}, style, size, path)
}

func frameOf(t *testing.T, feed *Feed, actions Actions, style string, size [2]int, path []intent) string {
	t.Helper()
	m := newModel(t.Context(), Options{
		Name: "web-app", Feed: feed, Now: feed.Now, Actions: actions, Color: style == "color", ASCII: style == "ascii",
	})
	m.resize(size[0], size[1])
	m.View() // the windows get their sizes
	for _, i := range path {
		m.do(i)
	}
	m.dirty = true
	frame := m.View().Content
	requireFits(t, frame, size[0], size[1])
	if style == "ascii" {
		require.True(t, ascii(strings.ReplaceAll(ansi.Strip(frame), "\n", "")), "only ASCII characters")
		require.NotRegexp(t, `\x1b\[[0-9;]*[39][0-7]`, frame, "no colours")
	}
	return frame
}

// requireFits checks the size of a frame, in both ways that terminals measure.
func requireFits(t *testing.T, frame string, w, h int) {
	t.Helper()
	lines := strings.Split(frame, "\n")
	require.Len(t, lines, h)
	for i, l := range lines {
		require.Equal(t, w, ansi.StringWidth(l), "line %d by clusters: %q", i, l)
		require.Equal(t, w, ansi.StringWidthWc(l), "line %d by characters: %q", i, l)
	}
}

// Whatever the size, and whatever is open, a frame fits.
func TestFramesFitAnySize(t *testing.T) {
	feed := replay(t, recording)
	for _, v := range views {
		for w := 1; w < 170; w += 13 {
			for h := 1; h < 50; h += 7 {
				m := newModel(t.Context(), Options{Name: "web-app", Feed: feed, Now: feed.Now})
				m.resize(w, h)
				m.View()
				for _, i := range v.path {
					m.do(i)
				}
				m.Update(tea.WindowSizeMsg{Width: w, Height: h})
				requireFits(t, m.View().Content, w, h)
			}
		}
	}
}

// A replay ends in the frame of the run: the same events, one by one or at
// once, give the same picture.
func TestReplayEndsInTheSameFrame(t *testing.T) {
	o := func(f *Feed) Options { return Options{Name: "web-app", Feed: f, Now: f.Now, Color: true} }
	whole := replay(t, recording)
	watched := NewFeed()
	m := newModel(t.Context(), o(watched))
	m.resize(100, 30)
	n := 0
	require.NoError(t, eachEnvelope(recording, func(e envelope) error {
		if n++; n%50 == 0 {
			m.Update(snapshotMsg(watched.latest()))
			m.View()
		}
		return watched.Handle(e)
	}))
	m.Update(snapshotMsg(watched.latest()))
	assert.Equal(t, Frame(o(whole), 100, 30), m.View().Content)
}
