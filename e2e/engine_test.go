//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/e2e/engines"
	"github.com/sandbox-stack/sandbox/internal/event"
)

// The engine that the scenarios run on: podman, unless this variable says
// docker.
var engineUnderTest = cmp.Or(os.Getenv("SANDBOX_E2E_RUNTIME"), "podman")

// ourDocker is the Docker of these tests, started when it is needed first and
// ended with them.
var ourDocker struct {
	once   sync.Once
	engine *engines.Docker
	err    error
}

func docker(t *testing.T) *engines.Docker {
	t.Helper()
	ourDocker.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		ourDocker.engine, ourDocker.err = engines.StartDocker(ctx, engines.Options{})
	})
	if ourDocker.err != nil {
		t.Fatal(ourDocker.err)
	}
	return ourDocker.engine
}

func stopDocker() error {
	if ourDocker.engine == nil {
		return nil
	}
	return ourDocker.engine.Stop()
}

// engineEnv is what leads the program, and the engine's own command, to the
// engine of this world.
func (w *world) engineEnv() []string {
	w.t.Helper()
	path := os.Getenv("PATH")
	if w.path != "" {
		path = w.path + ":" + path
	}
	if w.engine != "docker" {
		return []string{"PATH=" + path}
	}
	d := docker(w.t)
	return []string{"SANDBOX_RUNTIME=docker", "DOCKER_HOST=" + d.Host(), "PATH=" + d.Commands() + ":" + path}
}

// ask runs the engine's own command, as a second opinion.
func (w *world) ask(args ...string) string {
	w.t.Helper()
	program := "podman"
	// Podman needs the same adaptation to this machine as sandbox gives it.
	env := []string{"CONTAINERS_CONF=" + engineConf(w.t)}
	if w.engine == "docker" {
		program, env = filepath.Join(docker(w.t).Commands(), "docker"), w.engineEnv()
	}
	cmd := exec.Command(program, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

func engineConf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "containers.conf")
	if err := os.WriteFile(path, []byte("[containers]\ndefault_ulimits = []\n[engine]\nruntime = \"runc\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// containers lists ID, name and start of what belongs to a sandbox.
func (w *world) containers(name string) []string {
	w.t.Helper()
	var list []string
	for _, label := range []string{"sandbox.name=" + name, "io.x-k8s.kind.cluster=sandbox-" + name} {
		for _, id := range strings.Fields(w.ask("ps", "-a", "-q", "--filter", "label="+label)) {
			list = append(list, strings.TrimSpace(w.ask("inspect", "--format", "{{.ID}} {{.Name}} {{.State.StartedAt}}", id)))
		}
	}
	return list
}

// TestSameOnBothEngines: a stack must come up, stay and go by the same steps
// with the same outcomes whichever engine carries it, at the same time.
func TestSameOnBothEngines(t *testing.T) {
	const name = "e2e-same"
	runs := map[string]*[3]string{}
	states := map[string]string{}
	for _, engine := range []string{"podman", "docker"} {
		w := newWorldOn(t, engine, name)
		runs[engine] = &[3]string{}
		for i := range 2 {
			w.mustUp(name, "web-app")
			runs[engine][i] = stepsOf(w.lastRun(name), i == 0)
		}
		st := w.healthy(name)
		if !strings.HasPrefix(st.Engine, engine+" ") {
			t.Errorf("it is on %s, not on %s", st.Engine, engine)
		}
		var parts []string
		for _, c := range st.Components {
			if strings.Contains(c.Component, "/Pod/") {
				continue // its name is new every time
			}
			parts = append(parts, c.Component+" "+string(c.State))
		}
		states[engine] = strings.Join(parts, "\n")
		runs[engine][2] = stepsOf(w.down(name), false)
	}
	for i, what := range []string{"the first up", "the second up", "down"} {
		if p, d := runs["podman"][i], runs["docker"][i]; p != d {
			t.Errorf("%s on Podman:\n%s\non Docker:\n%s", what, p, d)
		}
		t.Logf("%s on both engines:\n%s", what, runs["docker"][i])
	}
	if states["podman"] != states["docker"] {
		t.Errorf("health on Podman:\n%s\non Docker:\n%s", states["podman"], states["docker"])
	}
}

// stepsOf renders a run's plan and how each step ended. Where a platform image
// comes from depends on what the engine has, which first says to pass over, and
// whether health has to be waited for depends on the moment.
func stepsOf(run []event.Envelope, first bool) string {
	outcomes := map[string]string{}
	var ids, lines []string
	after := map[string][]string{}
	for _, e := range run {
		switch {
		case e.PlanReady != nil:
			for _, s := range e.PlanReady.Steps {
				ids = append(ids, s.ID)
				after[s.ID] = s.After
			}
		case e.StepFinished != nil:
			outcome := string(e.StepFinished.Outcome)
			if id := e.StepFinished.ID; (id == "health" || first && strings.HasPrefix(id, "platform/")) && outcome == string(event.Unchanged) {
				outcome = string(event.Done)
			}
			outcomes[e.StepFinished.ID] = outcome
		case e.RunFinished != nil:
			lines = append(lines, fmt.Sprintf("run ok %t", e.RunFinished.OK))
		}
	}
	for _, id := range ids {
		lines = append(lines, fmt.Sprintf("%s after %v: %s", id, slices.Sorted(slices.Values(after[id])), cmp.Or(outcomes[id], "did not end")))
	}
	return strings.Join(lines, "\n")
}

// down removes a sandbox and returns the events of that.
func (w *world) down(name string) []event.Envelope {
	w.t.Helper()
	res := w.run("down", "--name", name, "--progress", "json")
	if res.code != 0 {
		w.t.Fatalf("down: exit %d\n%s", res.code, res.stderr)
	}
	var all []event.Envelope
	for e, err := range event.Read(strings.NewReader(res.stderr + res.stdout)) {
		if err != nil {
			w.t.Fatalf("down: %v\n%s%s", err, res.stdout, res.stderr)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		w.t.Fatal(errors.New("down has no events"))
	}
	return all
}

// TestStaysOnItsEngine: what was made with one engine must not be looked for in
// another, whatever is set by then.
func TestStaysOnItsEngine(t *testing.T) {
	const name = "e2e-stay"
	w := newWorldOn(t, "docker", name)
	w.mustUp(name, "minimal")
	other := &world{t: t, bin: w.bin, state: w.state, home: w.home, engine: "podman"}
	if st := other.healthy(name); !strings.HasPrefix(st.Engine, "docker ") {
		t.Errorf("without DOCKER_HOST it is %s on %q", st.State, st.Engine)
	}
	res := other.up(name, "minimal", "--runtime", "podman")
	for _, want := range []string{"sandbox " + name + " was made with docker, not with podman", "Try: sandbox down --name " + name} {
		if res.code != 1 || !strings.Contains(res.stderr, want) {
			t.Errorf("up on the other engine: exit %d, want 1 and %q\n%s", res.code, want, res.stderr)
		}
	}
	other.must("down", "--name", name, "--images")
	w.assertNothingLeft(name, map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "PROMETHEUS_URL": "http://127.0.0.1:1", "ALERTMANAGER_URL": "http://127.0.0.1:1"})
}

// TestBuildah: on either engine, --builder buildah must build the stack's images
// with Buildah, and say so where it is missing.
func TestBuildah(t *testing.T) {
	const name = "e2e-buildah"
	commands, err := engines.Buildah(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(commands, "buildah"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := strings.Fields(string(out))[2]
	for _, engine := range []string{"podman", "docker"} {
		t.Run(engine, func(t *testing.T) {
			w := newWorldOn(t, engine, name)
			w.path = commands
			w.mustUp(name, "minimal", "--builder", "buildah")
			ref := component(t, w.healthy(name), "image/hello").Reason
			if got := strings.TrimSpace(w.ask("image", "inspect", "--format", `{{index .Config.Labels "io.buildah.version"}}`, ref)); got != version {
				t.Errorf("%s was built by Buildah %q, not %s", ref, got, version)
			}
			w.must("down", "--name", name, "--images")
		})
	}
	w := newWorld(t, name)
	if _, err := exec.LookPath("buildah"); err == nil {
		t.Skip("this machine has Buildah")
	}
	if res := w.up(name, "minimal", "--builder", "buildah"); res.code != 1 || !strings.Contains(res.stderr, "Buildah is not installed") {
		t.Errorf("without it: exit %d\n%s", res.code, res.stderr)
	}
}
