package tui

// The sizes at which the layout changes.
const (
	minWidth, minHeight = 60, 12 // below there is room for one line only
	splitWidth          = 100    // from here on, the detail pane is beside the list
	headerHeight        = 24     // from here on, there is a header
)

// rect is a part of the screen in cells.
type rect struct{ x, y, w, h int }

func (r rect) has(x, y int) bool { return x >= r.x && x < r.x+r.w && y >= r.y && y < r.y+r.h }

// layout says where everything goes. A line that is not shown has y -1.
type layout struct {
	w, h int
	// line is all there is: one status line.
	line                        bool
	header, tabs, status, hints int
	// list and detail are the insides of the panes, without their frames.
	// detail has no width where there is no such pane.
	list, detail rect
}

// wish is what the layout depends on, beside the size.
type wish struct {
	noHeader bool // hidden by the user
	full     bool // full screen: nothing but the pane and its status line
	detail   bool // the screen has a detail pane
	inDetail bool // the user is in the detail pane
}

// arrange lays out a screen of w columns and h lines.
func arrange(w, h int, want wish) layout {
	l := layout{w: w, h: h, header: -1, tabs: -1, status: -1, hints: -1}
	if w < minWidth || h < minHeight {
		l.line, l.status = true, 0
		return l
	}
	top, bottom := 0, h
	if !want.full {
		if h >= headerHeight && !want.noHeader {
			l.header, top = top, top+1
		}
		l.tabs, top = top, top+1
		bottom--
		l.hints = bottom
	}
	bottom--
	l.status = bottom
	inside := rect{x: 1, y: top + 1, w: w - 2, h: bottom - top - 2}
	switch {
	case !want.detail:
		l.list = inside
	case w < splitWidth && want.inDetail:
		l.detail = inside
	case w < splitWidth:
		l.list = inside
	default:
		side := max(38, min(64, w*38/100)) - 1
		l.list, l.detail = inside, inside
		l.list.w = inside.w - side - 1
		l.detail.x, l.detail.w = inside.x+l.list.w+1, side
	}
	return l
}

// split says whether both panes are shown.
func (l layout) split() bool { return l.list.w > 0 && l.detail.w > 0 }
