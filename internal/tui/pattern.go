package tui

import (
	"regexp"
	"strings"
)

// pattern is what a filter or a search looks for: a regular expression, in
// which lower case stands for both cases. A leading "!" inverts it. What is not
// a regular expression is looked for as it is. The zero pattern matches all.
type pattern struct {
	text   string
	invert bool
	re     *regexp.Regexp
}

func parsePattern(text string) pattern {
	p := pattern{text: text}
	rest, inverted := strings.CutPrefix(text, "!")
	if rest == "" {
		return p
	}
	p.invert = inverted
	expr := rest
	if _, err := regexp.Compile(expr); err != nil {
		expr = regexp.QuoteMeta(rest)
	}
	if rest == strings.ToLower(rest) {
		expr = "(?i)" + expr
	}
	p.re = regexp.MustCompile(expr)
	return p
}

// empty says whether the pattern matches all.
func (p pattern) empty() bool { return p.re == nil }

// match says whether one of the texts matches; of an inverted pattern, whether
// none does.
func (p pattern) match(texts ...string) bool {
	if p.re == nil {
		return true
	}
	for _, t := range texts {
		if p.re.MatchString(t) {
			return !p.invert
		}
	}
	return p.invert
}

// find returns where in the text the pattern is, to be highlighted.
func (p pattern) find(text string) [][]int {
	if p.re == nil || p.invert {
		return nil
	}
	return p.re.FindAllStringIndex(text, -1)
}
