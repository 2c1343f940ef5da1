package docker

import (
	"regexp"
	"strings"
)

// directive matches a parser directive, which are comments at the very top.
var directive = regexp.MustCompile(`^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*\S`)

// withoutSyntax takes the directive out that names the Dockerfile's syntax. The
// other lines keep their numbers, and the other directives stay on top.
func withoutSyntax(dockerfile string) string {
	var kept, gone strings.Builder
	rest := dockerfile
	for {
		line, after, _ := strings.Cut(rest, "\n")
		match := directive.FindStringSubmatch(line)
		if match == nil {
			return kept.String() + gone.String() + rest
		}
		if strings.EqualFold(match[1], "syntax") {
			gone.WriteString("#\n")
		} else {
			kept.WriteString(line + "\n")
		}
		rest = after
	}
}
