package tui

import "slices"

// list is the cursor and the scroll position of a column of rows. Rows have
// keys, so that the cursor stays on what it is on while rows come and go.
type list struct {
	keys []string
	at   int // the row under the cursor
	top  int // the first visible row
	size int // rows that were visible last
}

// set gives the list new rows.
func (l *list) set(keys []string) {
	key := l.key()
	l.keys = keys
	if i := slices.Index(keys, key); i >= 0 {
		l.at = i
	}
	l.clamp()
}

func (l *list) clamp() { l.at = max(0, min(l.at, len(l.keys)-1)) }

// key is the key of the row under the cursor, or "" where there are no rows.
func (l *list) key() string {
	if l.at < 0 || l.at >= len(l.keys) {
		return ""
	}
	return l.keys[l.at]
}

// goTo moves the cursor to the row of that key, if there is one.
func (l *list) goTo(key string) bool {
	i := slices.Index(l.keys, key)
	if i >= 0 {
		l.at = i
	}
	return i >= 0
}

// window is the range of rows that h lines show, the cursor among them.
func (l *list) window(h int) (from, to int) {
	l.size = max(1, h)
	l.clamp()
	l.top = min(l.top, l.at)
	l.top = max(l.top, l.at-l.size+1)
	l.top = max(0, min(l.top, len(l.keys)-l.size))
	return l.top, min(len(l.keys), l.top+max(0, h))
}

// do moves the cursor and says whether the intent was one of moving.
func (l *list) do(i intent) bool {
	d, ok := step(i, l.size, len(l.keys))
	if ok {
		l.at += d
		l.clamp()
	}
	return ok
}

// step is how far an intent moves in a window of size lines onto total ones.
func step(i intent, size, total int) (int, bool) {
	switch i {
	case moveDown:
		return 1, true
	case moveUp:
		return -1, true
	case pageDown:
		return max(1, size-1), true
	case pageUp:
		return -max(1, size-1), true
	case halfDown:
		return max(1, size/2), true
	case halfUp:
		return -max(1, size/2), true
	case moveTop:
		return -total, true
	case moveBottom:
		return total, true
	}
	return 0, false
}

// pager is a text that scrolls.
type pager struct {
	top  int
	size int // lines that were visible last
	all  int // lines there were last
}

// window is the part of lines that h lines show.
func (p *pager) window(lines []string, h int) []string {
	p.size, p.all = max(1, h), len(lines)
	p.top = max(0, min(p.top, p.all-p.size))
	return lines[p.top:min(p.all, p.top+max(0, h))]
}

// do scrolls and says whether the intent was one of moving.
func (p *pager) do(i intent) bool {
	d, ok := step(i, p.size, p.all)
	if ok {
		p.top = max(0, min(p.top+d, p.all-p.size))
	}
	return ok
}

// share says where in a text of all lines the window is, or nothing where all
// is visible.
func share(top, size, all int) string {
	switch {
	case all <= size:
		return ""
	case top+size >= all:
		return "end"
	case top == 0:
		return "more below"
	default:
		return percent(top+size, all)
	}
}
