package detect

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime/docker"
)

// dockerAt finds Docker's address in the order in which its own command does:
// DOCKER_HOST, then the context that DOCKER_CONTEXT or the configuration names,
// then the system's or the user's socket. An engine on another machine has to
// be allowed.
func dockerAt(c Choice) (Found, error) {
	found, source, err := dockerNamed()
	if c.Host != "" && (err != nil || c.Host != found.Host) { // which is for others
		found, source, err = Found{Host: c.Host}, "the sandbox's record", nil
	}
	if err != nil {
		return Found{}, err
	}
	found.Engine = Docker
	if found.remote, err = remote(found.Host, source); err != nil {
		return Found{}, err
	}
	if found.remote && !c.Remote {
		return Found{}, fault.New(fault.Unavailable,
			"Docker is on another machine ("+redacted(found.Host)+", from "+source+")",
			"a sandbox publishes its ports on the engine's own 127.0.0.1 and mounts this machine's files",
			"unset DOCKER_HOST DOCKER_CONTEXT, or, where both are shared: sandbox up --remote-engine")
	}
	return found, nil
}

// dockerNamed is the address that is configured, and what names it.
func dockerNamed() (Found, string, error) {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		found := Found{Host: host}
		if os.Getenv("DOCKER_TLS_VERIFY") != "" {
			found.tls = tlsFiles(cmp.Or(os.Getenv("DOCKER_CERT_PATH"), configDir()))
		}
		return found, "DOCKER_HOST", nil
	}
	name, source, err := contextName()
	if err != nil {
		return Found{}, "", err
	}
	if name != "" && name != "default" {
		found, err := contextOf(name)
		return found, "context " + name + " of " + source, err
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		socket := filepath.Join(dir, "docker.sock")
		if _, err := os.Stat(socket); err == nil {
			return Found{Host: "unix://" + socket}, "this user's socket", nil
		}
	}
	return Found{Host: docker.DefaultHost}, "the system's socket", nil
}

// configDir is where Docker's command keeps its configuration.
func configDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// contextName is the name of the context in use, empty where none is chosen.
func contextName() (name, source string, err error) {
	if name = os.Getenv("DOCKER_CONTEXT"); name != "" {
		return name, "DOCKER_CONTEXT", nil
	}
	path := filepath.Join(configDir(), "config.json")
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	switch err := readJSON(path, &config); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "", "", nil // Docker's command goes on without it too
	case err != nil:
		return "", "", fault.Wrap(fault.Invalid, err, "mend "+path+", or export DOCKER_HOST="+docker.DefaultHost,
			"Docker's configuration can't be read")
	}
	return config.CurrentContext, path, nil
}

// contextOf reads the address of a context.
func contextOf(name string) (Found, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct {
			Host string `json:"Host"`
		} `json:"Endpoints"`
	}
	path := filepath.Join(configDir(), "contexts", "meta", id, "meta.json")
	if err := readJSON(path, &meta); err != nil {
		return Found{}, fault.Wrap(fault.Invalid, err, "docker context use default, or unset DOCKER_CONTEXT",
			"Docker's context %q can't be used", name)
	}
	host := meta.Endpoints["docker"].Host
	if host == "" {
		return Found{}, fault.New(fault.Invalid, fmt.Sprintf("Docker's context %q can't be used", name),
			path+" holds no address of Docker", "docker context use default, or unset DOCKER_CONTEXT")
	}
	found := Found{Host: host}
	certs := filepath.Join(configDir(), "contexts", "tls", id, "docker")
	if _, err := os.Stat(certs); err == nil {
		found.tls = tlsFiles(certs)
	}
	return found, nil
}

func tlsFiles(dir string) *docker.TLS {
	return &docker.TLS{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
	}
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// remote reports whether the address is on another machine.
func remote(host, source string) (bool, error) {
	u, err := url.Parse(host)
	if err != nil {
		return false, fault.New(fault.Invalid, "Docker's address is not a URL", "it comes from "+source, "unset DOCKER_HOST")
	}
	switch u.Scheme {
	case "unix":
		return false, nil
	case "tcp", "http", "https":
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()), nil
	case "ssh":
		return true, fault.New(fault.Unavailable,
			"Docker is on another machine ("+redacted(host)+", from "+source+")",
			"sandbox does not open connections by ssh, and needs the engine's ports and files here",
			"unset DOCKER_HOST DOCKER_CONTEXT, or forward its socket with ssh -L and name it in DOCKER_HOST")
	}
	return false, fault.New(fault.Invalid, "Docker's address "+redacted(host)+" can't be used",
		fmt.Sprintf("it comes from %s, and %q is neither unix nor tcp", source, u.Scheme), "unset DOCKER_HOST DOCKER_CONTEXT")
}

// redacted is the address without a password.
func redacted(host string) string {
	u, err := url.Parse(host)
	if err != nil {
		return "not a URL"
	}
	return strings.TrimPrefix(u.Redacted(), "unix://")
}

// Remote reports whether the engine is on another machine.
func (f Found) Remote() bool { return f.remote }
