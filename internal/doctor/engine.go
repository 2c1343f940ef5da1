package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/go-version"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

var engineChecks = []Check{
	{ID: "engine/installed", Title: "a container engine is installed", cheap: true, run: checkInstalled},
	{ID: "engine/permission", Title: "this user may use the engine's socket", cheap: true, run: checkPermission},
	{ID: "engine/running", Title: "the engine answers", limit: engineLimit + checkLimit, run: checkRunning},
	{ID: "engine/version", Title: "the engine is new enough", cheap: true, limit: engineLimit + checkLimit, run: checkVersion},
	{ID: "engine/runtime", Title: "an OCI runtime that works with this kernel", cheap: true, run: checkOCIRuntime},
	{ID: "engine/network", Title: "what the engine needs for networks", cheap: true, run: checkHelpers},
	{ID: "rootless/ids", Title: "user and group IDs for rootless containers", cheap: true, run: checkSubIDs},
	{ID: "rootless/namespaces", Title: "user namespaces for rootless containers", cheap: true, run: checkNamespaces},
	{ID: "rootless/cgroup", Title: "cgroups delegated to this user", cheap: true, run: checkDelegation},
}

// The oldest engines that are known to work.
var oldest = map[string]*version.Version{
	"podman": version.Must(version.NewVersion("4.3.0")),
	"docker": version.Must(version.NewVersion("20.10.0")),
}

// manuals tell how to install an engine.
var manuals = map[string]string{"podman": "https://podman.io/docs/installation", "docker": "https://docs.docker.com/engine/install"}

// enginePackages are what Debian calls Podman and what it needs here; without
// recommended packages, they have to be named.
func (h *Host) enginePackages() []string {
	list := []string{"podman", "runc", "netavark", "aardvark-dns", "iptables"}
	if !h.root() {
		list = append(list, "uidmap", "slirp4netns", "passt")
	}
	return list
}

func checkInstalled(_ context.Context, e *exam) Finding {
	if !e.hasEngine() {
		return fail("no container engine is installed", "neither podman nor docker is on the PATH", "").
			repaired(e.Host, Repair{Packages: e.enginePackages()})
	}
	c, _ := e.chosen() // checkRunning tells what is wrong
	path, err := e.Find(c.Engine)
	switch {
	case err == nil && c.Why != "":
		return ok("%s is %s; %s", c.Engine, path, c.Why)
	case err == nil:
		return ok("%s is %s", c.Engine, path)
	case c.Engine == "podman":
		return fail("Podman is not installed", "no podman command is on the PATH", "").
			repaired(e.Host, Repair{Packages: e.enginePackages()})
	}
	return fail("Docker's command is not installed", "Docker answers, but kind makes its nodes by the docker command", "").
		repaired(e.Host, Repair{Packages: []string{"docker.io"}})
}

// sockets are where the engine listens, or would.
func (e *exam) sockets() []string {
	c, _ := e.chosen() // checkRunning tells what is wrong
	if path, unix := strings.CutPrefix(c.Host, "unix://"); unix {
		return []string{path}
	}
	switch {
	case c.Host != "":
		return nil
	case c.Engine == "docker":
		if path, unix := strings.CutPrefix(e.Env("DOCKER_HOST"), "unix://"); unix {
			return []string{path}
		}
		return []string{"/var/run/docker.sock"}
	case e.root():
		return []string{"/run/podman/podman.sock"}
	case e.Env("XDG_RUNTIME_DIR") != "":
		return []string{e.Env("XDG_RUNTIME_DIR") + "/podman/podman.sock"}
	}
	return nil
}

// variables name the socket of an engine.
var variables = map[string]string{"podman": "CONTAINER_HOST", "docker": "DOCKER_HOST"}

// named is the variable that names the engine's socket, "" where none does.
func (e *exam) named() string {
	c, _ := e.chosen() // checkRunning tells what is wrong
	if v := variables[c.Engine]; v != "" && e.Env(v) != "" {
		return v
	}
	return ""
}

func checkPermission(ctx context.Context, e *exam) Finding {
	if !e.hasEngine() {
		return noEngine()
	}
	for _, socket := range e.sockets() {
		err := e.Kernel.Dial(ctx, socket)
		switch {
		case err == nil:
			return ok("%s can be used", socket)
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			fix := fmt.Sprintf("sudo usermod -aG docker %s, then log in again", e.User.Name)
			if e.uses("podman") {
				fix = "sudo chown " + e.User.Name + " " + socket
			}
			if variable := e.named(); variable != "" {
				fix = "unset " + variable
			}
			return fail("no permission for the engine's socket "+socket,
				fmt.Sprintf("user %s may not connect to it: %v", e.User.Name, err), fix)
		}
	}
	if e.uses("podman") && e.named() == "" {
		return ok("no service of Podman's runs; sandbox starts one of its own")
	}
	return skip("nothing listens there", "see engine/running")
}

func checkRunning(ctx context.Context, e *exam) Finding {
	if !e.hasEngine() {
		return noEngine()
	}
	_, err := e.engine(ctx)
	if err == nil {
		mode := "rootful"
		if e.info.Rootless {
			mode = "rootless"
		}
		if !slices.Contains(e.sockets(), e.info.Socket) {
			return ok("%s %s answers, %s, by a service that sandbox starts", e.info.Engine, e.info.Version, mode)
		}
		return ok("%s %s answers, %s, on %s", e.info.Engine, e.info.Version, mode, e.info.Socket)
	}
	var said *fault.Error
	switch {
	case errors.Is(err, errEngineLate):
		name, restart := "Docker", "sudo systemctl restart docker"
		list, variable := e.sockets(), e.named()
		if e.uses("podman") {
			name, restart = "Podman", "podman info, to see where it hangs"
			if e.there(list...) {
				restart = "systemctl --user restart podman.socket podman.service"
				if e.root() {
					restart = "systemctl restart podman.socket podman.service"
				}
			}
		}
		why := "its service is stopped or hangs"
		if len(list) > 0 && e.there(list...) {
			why += "; its socket is " + list[0]
		}
		if variable != "" {
			restart = "restart the service behind the socket, or unset " + variable
		}
		return fail(fmt.Sprintf("%s does not answer within %s", name, engineLimit), why, restart)
	case errors.As(err, &said):
		why := said.Reason()
		if n := len(said.Log); n > 0 {
			why += ": " + said.Log[n-1]
		}
		return fail(said.What, why, said.Try)
	default:
		return fail("the engine does not answer", err.Error(), "podman info")
	}
}

func noEngine() Finding { return skip("no container engine is installed", "see engine/installed") }

func noAnswer() Finding { return skip("the engine does not answer", "see engine/running") }

// notPodman is what is to be said of Podman's parts without it.
func (e *exam) notPodman() Finding {
	if !e.hasEngine() {
		return noEngine()
	}
	return skip("Docker brings its own", "this is looked for with Podman only")
}

func checkVersion(ctx context.Context, e *exam) Finding {
	var name, text string
	if e.uses("podman") {
		out, err := e.Output(ctx, "podman", "--version")
		if err != nil {
			return warn("podman does not tell its version", err.Error(), "podman --version")
		}
		name, text = "podman", strings.TrimPrefix(out, "podman version ")
	} else {
		if !e.hasEngine() {
			return noEngine()
		}
		if _, err := e.engine(ctx); err != nil {
			return noAnswer()
		}
		name, text = e.info.Engine, e.info.Version
	}
	have, err := version.NewVersion(strings.TrimSpace(text))
	if err != nil {
		return unknown("the version of "+name, err)
	}
	if least := oldest[name]; least != nil && have.LessThan(least) {
		// The distribution's is what is there: installing it again would not help.
		return fail(fmt.Sprintf("%s %s is too old", name, have), fmt.Sprintf("at least %s is needed", least), "install a newer one: "+manuals[name])
	}
	return ok("%s %s", name, have)
}

func checkOCIRuntime(_ context.Context, e *exam) Finding {
	if !e.uses("podman") {
		return e.notPodman()
	}
	runc, crun := e.program("runc"), e.program("crun")
	v2, err := e.cgroup2()
	switch {
	case err != nil:
		return unknown("which OCI runtime is needed", err)
	case !v2 && !runc:
		return fail("Podman needs runc on this machine", "the kernel offers cgroup v1 only, which crun does not support", "").
			repaired(e.Host, Repair{Packages: []string{"runc"}})
	case !runc && !crun:
		return fail("neither crun nor runc is installed", "Podman starts containers with one of them", "").
			repaired(e.Host, Repair{Packages: []string{"crun"}})
	case !v2:
		return ok("runc, as cgroup v1 asks for")
	case crun:
		return ok("crun")
	}
	return ok("runc")
}

// checkHelpers looks for the programs that Podman runs for networks between
// containers: without aardvark-dns they don't find each other by name.
func checkHelpers(_ context.Context, e *exam) Finding {
	if !e.uses("podman") {
		return e.notPodman()
	}
	type helper struct{ program, pkg string }
	needed := []helper{{"netavark", "netavark"}, {"aardvark-dns", "aardvark-dns"}, {"conmon", "conmon"}}
	if !e.program("nft") {
		needed = append(needed, helper{"iptables", "iptables"})
	}
	if !e.root() && !e.program("pasta") {
		needed = append(needed, helper{"slirp4netns", "slirp4netns"})
	}
	var missing, packages []string
	for _, n := range needed {
		if !e.program(n.program) {
			missing = append(missing, n.program)
			packages = append(packages, n.pkg)
		}
	}
	if len(missing) == 0 {
		names := make([]string, len(needed))
		for i, n := range needed {
			names[i] = n.program
		}
		return ok("%s", strings.Join(names, ", "))
	}
	return fail("Podman lacks "+strings.Join(missing, ", "), "containers of a sandbox share a network and find each other by name", "").
		repaired(e.Host, Repair{Packages: packages})
}

// rootless reports whether containers are this user's own, or would be once
// Podman is installed.
func (e *exam) rootless() bool { return !e.root() && !e.uses("docker") }

func notRootless() Finding { return skip("not rootless", "this is for Podman without root") }

// subIDs is how many IDs rootless containers need: images use them up to 65535.
const subIDs = 65536

func checkSubIDs(_ context.Context, e *exam) Finding {
	if !e.rootless() {
		return notRootless()
	}
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if !e.program(program) {
			return fail(program+" is not installed", "rootless containers get their user IDs by it", "").
				repaired(e.Host, Repair{Packages: []string{"uidmap"}})
		}
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := e.read(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unknown("the IDs in "+file, err)
		}
		if n := idsOf(text, e.User); n < subIDs {
			return fail(fmt.Sprintf("user %s has %d IDs in %s", e.User.Name, n, file),
				fmt.Sprintf("rootless containers need %d", subIDs),
				fmt.Sprintf("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s && podman system migrate", e.User.Name))
		}
	}
	return ok("user %s has at least %d", e.User.Name, subIDs)
}

// idsOf counts a user's IDs in a file such as /etc/subuid: name:first:count.
func idsOf(text string, u User) (count int) {
	for line := range strings.Lines(text) {
		var first, n int
		name, numbers, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != u.Name && name != fmt.Sprint(u.UID) {
			continue
		}
		if _, err := fmt.Sscanf(numbers, "%d:%d", &first, &n); err == nil {
			count += n
		}
	}
	return count
}

func checkNamespaces(_ context.Context, e *exam) Finding {
	if !e.rootless() {
		return notRootless()
	}
	for _, s := range []struct{ file, bad, fix string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=28633"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
	} {
		text, err := e.read(s.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // this kernel has no such switch
		}
		if err != nil {
			return unknown(s.file, err)
		}
		if text == s.bad {
			return fail("user namespaces are switched off", s.file+" is "+s.bad+", and rootless containers live in one", s.fix)
		}
	}
	return ok("switched on")
}

// delegated are the controllers that a rootless node needs.
var delegated = []string{"cpu", "memory", "pids"}

func checkDelegation(_ context.Context, e *exam) Finding {
	if !e.rootless() {
		return notRootless()
	}
	v2, err := e.cgroup2()
	if err != nil {
		return unknown("the version of cgroups", err)
	}
	if !v2 {
		return fail("a rootless cluster needs cgroup v2", "this kernel offers cgroup v1 only, whose controllers belong to root",
			"run sandbox as root, or boot with systemd.unified_cgroup_hierarchy=1")
	}
	file := fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%[1]d.slice/user@%[1]d.service/cgroup.controllers", e.User.UID)
	text, err := e.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fail("user "+e.User.Name+" has no session of systemd's", file+" is missing, and with it cgroups of the user's own",
			"sudo loginctl enable-linger "+e.User.Name+", then log in again")
	}
	if err != nil {
		return unknown("which cgroup controllers are delegated", err)
	}
	if missing := lacking(strings.Fields(text), delegated); len(missing) > 0 {
		return fail("user "+e.User.Name+" lacks the cgroup controllers "+strings.Join(missing, ", "), "nodes of a rootless cluster need them",
			"sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=yes\\n' | "+
				"sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log in again")
	}
	return ok("%s", strings.Join(delegated, ", "))
}
