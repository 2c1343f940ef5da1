package packages

import (
	"path"
	"strings"
)

// matcher decides which paths of a Debian system go into a layer.
type matcher struct{ keep, remove []string }

// alwaysRemoved is what no image needs: documentation, translations, what apt
// keeps for itself, and devices, which an engine provides.
var alwaysRemoved = []string{
	"/dev/**", "/run/**", "/tmp/**", "/var/tmp/**",
	"/usr/share/doc/**", "/usr/share/man/**", "/usr/share/info/**", "/usr/share/locale/**", "/usr/share/lintian/**",
	"/var/cache/apt/**", "/var/lib/apt/lists/**", "/var/log/*.log", "/var/log/apt/**", "/var/cache/debconf/*-old",
	"/var/lib/dpkg/*-old", "/etc/resolv.conf", "/etc/hostname", "/etc/machine-id",
}

func (m matcher) match(name string) bool {
	for _, glob := range alwaysRemoved {
		if matchGlob(glob, name) {
			return false
		}
	}
	for _, glob := range m.remove {
		if covers(glob, name) {
			return false
		}
	}
	if len(m.keep) == 0 {
		return true
	}
	for _, glob := range m.keep {
		if covers(glob, name) || leadsTo(glob, name) {
			return true
		}
	}
	return false
}

// covers reports whether the pattern matches name or a folder it lies in.
func covers(glob, name string) bool {
	for ; name != "/"; name = path.Dir(name) {
		if matchGlob(glob, name) {
			return true
		}
	}
	return false
}

// leadsTo reports whether name is a folder on the way to what glob matches.
func leadsTo(glob, name string) bool {
	want, have := strings.Split(glob, "/"), strings.Split(name, "/")
	if len(have) >= len(want) {
		return false
	}
	for i := range have {
		if want[i] == "**" {
			return true
		}
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// matchGlob is path.Match where an element "**" stands for any number of
// elements, at least one at the pattern's end.
func matchGlob(glob, name string) bool {
	return matchElements(strings.Split(glob, "/"), strings.Split(name, "/"))
}

func matchElements(glob, name []string) bool {
	for len(glob) > 0 {
		if glob[0] == "**" {
			if len(glob) == 1 {
				return len(name) > 0
			}
			for i := range len(name) + 1 {
				if matchElements(glob[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(glob[0], name[0]); err != nil || !ok {
			return false
		}
		glob, name = glob[1:], name[1:]
	}
	return len(name) == 0
}
