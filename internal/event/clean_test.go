package event_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestClean(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":                {"all quiet", "all quiet"},
		"utf-8":                {"naïve → 日本語 ✓", "naïve → 日本語 ✓"},
		"colour":               {"\x1b[1;31merror\x1b[0m: no", "error: no"},
		"private mode":         {"\x1b[?1049hx\x1b[?25l", "x"},
		"title, BEL":           {"\x1b]0;owned\x07ok", "ok"},
		"link, ST":             {"\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"},
		"DCS":                  {"a\x1bPq#0;2\x1b\\b", "ab"},
		"APC":                  {"a\x1b_Gf=24\x1b\\b", "ab"},
		"C1 CSI":               {"a\u009b31mb", "ab"},
		"C1 OSC":               {"a\u009d0;t\u009cb", "ab"},
		"charset":              {"\x1b(Bx", "x"},
		"reset":                {"a\x1bcb", "ab"},
		"index":                {"a\x1bDb", "ab"},
		"stray escape":         {"end\x1b", "end"},
		"unfinished CSI":       {"a\x1b[12", "a"},
		"unfinished OSC":       {"a\x1b]0;rest of the line", "a0;rest of the line"},
		"backspace, bell, NUL": {"a\b\a\x00b\x7f", "ab"},
		"tab":                  {"a\tb", "a    b"},
		"progress bar":         {"10%\r50%\r100%\r\n", "100%"},
		"line break":           {"a\nb\n", "a b"},
		"invalid UTF-8":        {"a\xff\xfeb", "a\uFFFD\uFFFDb"},
		"lone C1 byte":         {"a\x9b31mb", "a\uFFFD31mb"},
		"bidi override":        {"user\u202etxt.exe\u2066", "usertxt.exe"},
		"empty":                {"", ""},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, event.Clean(tc.in)) })
	}
}

func TestCleanCutsLongLines(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	got := event.Clean(long)
	assert.Less(t, len(got), 65<<10)
	assert.True(t, utf8.ValidString(got))
	assert.NotContains(t, got, "\uFFFD", "the cut falls between runes")
	assert.True(t, strings.HasSuffix(got, "… [cut, 200000 bytes in all]"), got[len(got)-60:])
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "\x1b[31m", "\x1b]0;x", "\u009b", "\xc2", "\x1b\x1b[", "a\r\nb\rc", "\x1b(\x1b[0m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := event.Clean(in)
		if !utf8.ValidString(out) {
			t.Fatalf("Clean(%q) = %q is not UTF-8", in, out)
		}
		for _, r := range out {
			if unicode.Is(unicode.Cc, r) {
				t.Fatalf("Clean(%q) = %q holds %U", in, out, r)
			}
		}
		if again := event.Clean(out); again != out && len(in) < 60<<10 {
			t.Fatalf("Clean is not stable: %q, then %q", out, again)
		}
	})
}
