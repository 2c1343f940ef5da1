//go:build bench

package bench

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// byHandName names the script's cluster, network and containers.
const byHandName = "bench-by-hand"

// byHand is the script with all that it needs.
type byHand struct {
	t   *testing.T
	env map[string]string
}

// newByHand prepares the script after a first `sandbox up` of that name: by
// then the platform's images are in the engine's store, and the program has
// written the engine's configuration for this machine, which the script gets
// as well where there is one.
func newByHand(t *testing.T, p *program, name string) *byHand {
	t.Helper()
	root, err := filepath.Abs(repo)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tools := filepath.Join(cache, "sandbox", "tools")
	plugins := filepath.Join(tools, "terraform-plugins") // the program keeps a cache of its own
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	noted := notedRefs(p, name)
	for _, image := range []string{"node", "localstack", "nodejs", "prometheus", "alertmanager"} {
		if noted[image] == "" {
			t.Fatalf("sandbox %s noted no image %s: %v", name, image, noted)
		}
	}
	providers := noted["terraform-providers"]
	if !filepath.IsAbs(providers) {
		providers = "" // from the registry
	}
	env := map[string]string{
		"NAME": byHandName, "REPO": root, "KUBECONFIG": "", "TF_PLUGIN_CACHE_DIR": plugins,
		"NODE_IMAGE": noted["node"], "LOCALSTACK_IMAGE": noted["localstack"], "BASE_IMAGE": noted["nodejs"],
		"PROMETHEUS_IMAGE": noted["prometheus"], "ALERTMANAGER_IMAGE": noted["alertmanager"],
		"PROVIDERS": providers, "TERRAFORM": terraformTool(t, noted["terraform-tool"]),
	}
	conf := filepath.Join(p.state, "sandbox", name, "engine", "containers.conf")
	if text, err := os.ReadFile(conf); err == nil {
		// A copy, because `down` takes the state folder away.
		own := filepath.Join(t.TempDir(), "containers.conf")
		if err := os.WriteFile(own, text, 0o600); err != nil {
			t.Fatal(err)
		}
		env["CONTAINERS_CONF"] = own
	}
	kindDir := filepath.Dir(installed(t, tools, "sigs.k8s.io/kind", "sigs.k8s.io/kind"))
	helmDir := filepath.Dir(installed(t, tools, "helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm"))
	path := []string{kindDir, helmDir}
	if _, err := exec.LookPath("kubectl"); err != nil {
		path = append(path, kubectlOf(t, tools, noted["node"]))
	}
	env["PATH"] = strings.Join(append(path, os.Getenv("PATH")), string(os.PathListSeparator))
	return &byHand{t: t, env: env}
}

// run runs the script once, on free ports, and returns the whole and its parts.
func (b *byHand) run() (run, []stepTime) {
	b.t.Helper()
	work := b.t.TempDir()
	env := map[string]string{"WORK": work}
	for name, value := range b.env {
		env[name] = value
	}
	for _, name := range []string{"AWS_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"} {
		env[name] = freePort(b.t)
	}
	r := measure(b.t, environment(env), "bash", "by-hand.sh")
	return r, scriptSteps(b.t, filepath.Join(work, "steps"))
}

// scriptSteps reads when the script's steps began. Each ends where the next begins.
func scriptSteps(t *testing.T, file string) []stepTime {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var steps []stepTime
	var began float64
	for line := range strings.Lines(string(text)) {
		at, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		now, err := strconv.ParseFloat(at, 64)
		if err != nil {
			t.Fatalf("steps of the script: %v", err)
		}
		if began == 0 {
			began = now
		}
		if n := len(steps); n > 0 {
			steps[n-1].Seconds = now - began - steps[n-1].Start
		}
		steps = append(steps, stepTime{ID: name, Start: now - began, Critical: true})
	}
	if len(steps) < 2 {
		t.Fatalf("the script wrote no steps: %q", text)
	}
	return steps[:len(steps)-1] // the last line is the end
}

// remove takes away whatever a run of the script made, by label.
func (b *byHand) remove() { removeByHand(b.t) }

func removeByHand(t *testing.T) {
	t.Helper()
	for _, label := range []string{"io.x-k8s.kind.cluster=" + byHandName, "sandbox.name=" + byHandName} {
		podmanEach(t, []string{"ps", "-aq", "--filter", "label=" + label}, "rm", "-f", "-v", "-t", "0")
	}
	own := "label=sandbox.name=" + byHandName
	podmanEach(t, []string{"network", "ls", "-q", "--filter", own}, "network", "rm")
	podmanEach(t, []string{"images", "-q", "--filter", own}, "rmi", "-f")
}

// podmanEach applies a command to what another one lists.
func podmanEach(t *testing.T, list []string, command ...string) {
	t.Helper()
	if found := strings.Fields(mustOutput(t, "podman", list...)); len(found) > 0 {
		mustOutput(t, "podman", append(command, found...)...)
	}
}

// notedRefs is where a sandbox noted its images and tools to be.
func notedRefs(p *program, name string) map[string]string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.state, "sandbox", name, "sandbox.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var record struct {
		Facts map[string]string `json:"facts"`
	}
	if err := json.Unmarshal(text, &record); err != nil {
		p.t.Fatalf("record of sandbox %s: %v", name, err)
	}
	refs := map[string]string{}
	for key, value := range record.Facts {
		if name, ok := strings.CutPrefix(key, "ref/"); ok {
			refs[name] = value
		}
	}
	return refs
}

// terraformTool is the Terraform that `sandbox up` uses on this machine: the
// one on the PATH, or the OpenTofu that it noted.
func terraformTool(t *testing.T, noted string) string {
	t.Helper()
	if noted != "" {
		return noted
	}
	for _, tool := range []string{"terraform", "tofu"} {
		if path, err := exec.LookPath(tool); err == nil {
			return path
		}
	}
	t.Fatal("neither terraform nor tofu is there")
	return ""
}

// installed returns the path of a Go module's program at the version that this
// module requires, built once into a folder of its own.
func installed(t *testing.T, tools, module, pkg string) string {
	t.Helper()
	version := strings.TrimSpace(mustOutput(t, "go", "list", "-mod=readonly", "-m", "-f", "{{.Version}}", module))
	name := filepath.Base(pkg)
	dir := filepath.Join(tools, name+"-"+version)
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	t.Logf("building %s %s, once", name, version)
	// Its own versions of what it needs, as its releases are built.
	measure(t, environment(map[string]string{"GOBIN": dir, "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}), "go", "install", pkg+"@"+version)
	return path
}

// kubectlOf copies the node image's kubectl and returns its folder.
func kubectlOf(t *testing.T, tools, nodeImage string) string {
	t.Helper()
	dir := filepath.Join(tools, "kubectl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(mustOutput(t, "podman", "create", "--label", "sandbox.name="+byHandName, nodeImage))
	mustOutput(t, "podman", "cp", id+":/usr/bin/kubectl", filepath.Join(dir, "kubectl"))
	mustOutput(t, "podman", "rm", id)
	return dir
}

// freePort is a port that is free now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}
