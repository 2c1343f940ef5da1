package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Repair mends what a check found: it installs packages of the distribution,
// or runs one command as root. Nothing is removed and no file of the user's is
// written by it.
type Repair struct {
	// Packages by their names in Debian.
	Packages []string
	Command  []string
	Input    string // of the command
}

// manager installs packages.
type manager struct {
	program string
	// before is run first: lists of packages may be missing or old.
	before, install []string
	root            bool
	// names are those that differ from Debian's; an empty one is left out.
	names map[string]string
	// after is what else has to be done.
	after string
}

// managers are those of the distributions, the first that is there wins. Only
// apt's is run by Apply: the others are described.
var managers = []manager{
	{
		program: "apt-get", root: true,
		before: []string{"apt-get", "update"}, install: []string{"apt-get", "install", "-y", "--no-install-recommends"},
	},
	{
		program: "dnf", root: true, install: []string{"dnf", "install", "-y"},
		names: map[string]string{"uidmap": "shadow-utils", "libc6-dev": "glibc-static", "iptables": "iptables-nft", "debian-archive-keyring": "debian-keyring"},
	},
	{
		program: "brew", install: []string{"brew", "install"}, after: "podman machine init && podman machine start",
		names: map[string]string{
			"runc": "", "crun": "", "netavark": "", "aardvark-dns": "", "iptables": "", "uidmap": "", "slirp4netns": "", "passt": "", "conmon": "",
		},
	},
}

// manager returns the package manager of this machine.
func (h *Host) manager() (manager, bool) {
	i := slices.IndexFunc(managers, func(m manager) bool { return h.has(m.program) })
	if i < 0 {
		return manager{}, false
	}
	return managers[i], true
}

// sorted returns the manager's names of the packages.
func (m manager) sorted(packages []string) []string {
	var list []string
	for _, p := range packages {
		if name, other := m.names[p]; other {
			p = name
		}
		if p != "" {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Text is the command for people.
func (r Repair) Text(h *Host) string {
	sudo := ""
	if !h.root() {
		sudo = "sudo "
	}
	if len(r.Packages) == 0 {
		text := sudo + strings.Join(r.Command, " ")
		if r.Input != "" {
			text = "echo " + strings.TrimSpace(r.Input) + " | " + text
		}
		return text
	}
	m, known := h.manager()
	if !known {
		return "install with your system's package manager: " + strings.Join(m.sorted(r.Packages), " ")
	}
	if !m.root {
		sudo = ""
	}
	var commands []string
	if len(m.before) > 0 {
		commands = append(commands, sudo+strings.Join(m.before, " "))
	}
	commands = append(commands, sudo+strings.Join(append(slices.Clone(m.install), m.sorted(r.Packages)...), " "))
	if m.after != "" {
		commands = append(commands, m.after)
	}
	return strings.Join(commands, " && ")
}

// applicable reports whether Apply could carry the repair out here.
func (h *Host) applicable(r Repair) bool {
	if h.OS != "linux" || (!h.root() && !h.has("sudo")) {
		return false
	}
	return len(r.Packages) == 0 || h.has("apt-get")
}

// Action is one thing that Apply does; repairs that install packages are one.
type Action struct {
	// Text is the command for people.
	Text  string
	Mends []string // IDs of checks
	runs  []run
}

type run struct {
	argv  []string
	input string
}

// Actions returns what mends what was found, as far as that is safe.
func Actions(h *Host, report Report) []Action {
	var list []Action
	var packages Repair
	var mends []string
	for _, c := range report.Checks {
		switch {
		case c.Repair == nil || (c.State != Fail && c.State != Warn):
		case len(c.Repair.Packages) > 0:
			packages.Packages = append(packages.Packages, c.Repair.Packages...)
			mends = append(mends, c.ID)
		default:
			list = append(list, Action{
				Text: c.Repair.Text(h), Mends: []string{c.ID},
				runs: []run{{h.asRoot(c.Repair.Command...), c.Repair.Input}},
			})
		}
	}
	if len(packages.Packages) == 0 {
		return list
	}
	m, _ := h.manager()
	install := append(slices.Clone(m.install), m.sorted(packages.Packages)...)
	first := Action{Text: packages.Text(h), Mends: mends}
	if len(m.before) > 0 {
		first.runs = append(first.runs, run{argv: h.asRoot(m.before...)})
	}
	// Nobody can answer what a package asks while it is installed.
	first.runs = append(first.runs, run{argv: h.asRoot(append([]string{"env", "DEBIAN_FRONTEND=noninteractive"}, install...)...)})
	return append([]Action{first}, list...)
}

// asRoot is the command with what makes it root's, never asking for a password.
func (h *Host) asRoot(argv ...string) []string {
	if h.root() {
		return argv
	}
	return append([]string{"sudo", "-n"}, argv...)
}

// lastLines is how much of a failed command's output goes into the error.
const lastLines = 15

// Apply carries the action out; line gets what its commands print.
func (a Action) Apply(ctx context.Context, line func(string)) error {
	for _, r := range a.runs {
		if err := r.apply(ctx, a.Text, line); err != nil {
			return err
		}
	}
	return nil
}

func (r run) apply(ctx context.Context, text string, line func(string)) error {
	cmd := exec.CommandContext(ctx, r.argv[0], r.argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // apt leaves its files in order
	cmd.WaitDelay = 10 * time.Second
	if r.input != "" {
		cmd.Stdin = strings.NewReader(r.input)
	}
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	var tail []string
	read := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			tail = append(tail, lines.Text())
			tail = tail[max(0, len(tail)-lastLines):]
			line(lines.Text())
		}
		read <- errors.Join(lines.Err(), out.CloseWithError(lines.Err()))
	}()
	err := cmd.Run()
	err = errors.Join(err, in.Close(), <-read)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	why := fmt.Sprintf("%s: %v", r.argv[0], err)
	if r.argv[0] == "sudo" {
		why += "; it needs root, and sudo must not ask for a password here"
	}
	return &fault.Error{Code: fault.Failed, What: "the repair failed", Why: why, Try: text, Log: tail, Cause: err}
}
