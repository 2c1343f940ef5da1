package docker

import "testing"

func TestWithoutSyntax(t *testing.T) {
	for in, want := range map[string]string{
		"# syntax=docker/dockerfile:1\nFROM a\n":             "#\nFROM a\n",
		"#Syntax = x/y:1\n# escape=`\nFROM a\n":              "# escape=`\n#\nFROM a\n",
		"# check=skip=all\n# syntax=x\n# syntax=y\nFROM a\n": "# check=skip=all\n#\n#\nFROM a\n",
		"FROM a\n# syntax=x\n":                               "FROM a\n# syntax=x\n",
		"# a comment\n# syntax=x\nFROM a":                    "# a comment\n# syntax=x\nFROM a",
		"":                                                   "",
		"# syntax=x":                                         "#\n",
	} {
		if got := withoutSyntax(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
