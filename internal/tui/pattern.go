package tui

import (
	"regexp"
	"slices"
	"strings"
)

// pattern is what a filter or a search looks for: a regular expression, in
// which lower case stands for both cases. A leading "!" inverts it. What is not
// a regular expression is looked for as it is. The zero pattern matches all.
type pattern struct {
	text   string
	invert bool
	re     *regexp.Regexp
	// words are the alternatives of an expression that has nothing but words,
	// as most have: these are found much faster. fold says that case does not
	// matter.
	words []string
	fold  bool
}

func parsePattern(text string) pattern {
	text = strings.ToValidUTF8(text, "?")
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
	if words := strings.Split(rest, "|"); regexp.QuoteMeta(strings.Join(words, "")) == strings.Join(words, "") && !slices.Contains(words, "") {
		p.words = words
	}
	if p.fold = rest == strings.ToLower(rest); p.fold {
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
		if p.in(t) {
			return !p.invert
		}
	}
	return p.invert
}

// in says whether the expression is in the text.
func (p pattern) in(text string) bool {
	if p.words == nil {
		return p.re.MatchString(text)
	}
	if p.fold {
		text = strings.ToLower(text)
	}
	return slices.ContainsFunc(p.words, func(w string) bool { return strings.Contains(text, w) })
}

// find returns where in the text the pattern is, to be highlighted.
func (p pattern) find(text string) [][]int {
	if p.re == nil || p.invert {
		return nil
	}
	return p.re.FindAllStringIndex(text, -1)
}
