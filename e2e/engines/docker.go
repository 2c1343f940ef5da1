// Package engines starts container engines for tests on machines that have
// none running: Docker as Debian packages it, unpacked into a folder of its
// own, with its own data and its own socket. Nothing is installed, and nothing
// outlives the test.
package engines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dockerStart bounds how long the daemon may take to answer.
	dockerStart = 60 * time.Second
	// dockerStop bounds how long it may take to end its containers and itself.
	dockerStop = 60 * time.Second
	// bridgeSubnet is that of the default bridge.
	bridgeSubnet = "10.202.0.0/24"
)

// Options say which Docker to start.
type Options struct {
	// Newest is that of Debian's unstable, which changes, instead of the
	// release's.
	Newest bool
	// ContainerdStore keeps images in containerd's store, as new installations
	// do from Docker 29 on.
	ContainerdStore bool
}

// Docker is a Docker daemon that this process started.
type Docker struct {
	dir  string
	opt  Options
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
	lock *os.File
	// bridged: the default bridge was not there before.
	bridged bool
}

// folder is where the packages, the images and the socket are kept between
// runs. Whoever starts the daemon there waits for whoever has it.
func (o Options) folder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	name := "docker"
	if o.Newest {
		name += "-newest"
	}
	if o.ContainerdStore {
		name += "-store"
	}
	return filepath.Join(cache, "sandbox", "engines", name), nil
}

// StartDocker starts the daemon and waits until it answers. Needs root.
func StartDocker(ctx context.Context, opt Options) (*Docker, error) {
	dir, err := opt.folder()
	if err != nil {
		return nil, fmt.Errorf("start Docker for tests: %w", err)
	}
	d := &Docker{dir: dir, opt: opt, done: make(chan struct{})}
	if err := d.start(ctx); err != nil {
		return nil, fmt.Errorf("start Docker for tests: %w", err)
	}
	return d, nil
}

// Socket is the path of the daemon's socket.
func (d *Docker) Socket() string { return filepath.Join(d.dir, "run", "docker.sock") }

// Host is what DOCKER_HOST has to be.
func (d *Docker) Host() string { return "unix://" + d.Socket() }

// PID is the daemon's process.
func (d *Docker) PID() int { return d.cmd.Process.Pid }

// Commands is the folder of the docker command, for the PATH.
func (d *Docker) Commands() string { return filepath.Join(d.dir, "commands") }

// Env is env with the daemon as Docker's host and its command on the PATH.
func (d *Docker) Env(env []string) []string {
	return append(env, "DOCKER_HOST="+d.Host(), "PATH="+d.Commands()+":"+os.Getenv("PATH"))
}

func (d *Docker) start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(d.dir, "run"), 0o700); err != nil {
		return err
	}
	if err := d.takeLock(ctx); err != nil {
		return err
	}
	err := d.unpack(ctx)
	if err == nil {
		err = d.run()
	}
	if err != nil {
		return errors.Join(err, d.lock.Close())
	}
	if err := d.waitAnswer(ctx); err != nil {
		return errors.Join(err, d.Stop())
	}
	return nil
}

// takeLock waits until nobody else has the folder.
func (d *Docker) takeLock(ctx context.Context) error {
	lock, err := os.OpenFile(filepath.Join(d.dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			d.lock = lock
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return errors.Join(err, lock.Close())
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("another run has %s: %w", d.dir, ctx.Err()), lock.Close())
		case <-ticker.C:
		}
	}
}

// run starts the process. The kernel ends it with this one.
func (d *Docker) run() error {
	if err := d.lookForBridge(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(d.dir, "dockerd.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has a descriptor of its own
	at := func(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }
	d.cmd = exec.Command(at("root", "usr", "sbin", "dockerd"),
		"--host", d.Host(),
		"--data-root", at("data"), "--exec-root", at("run", "exec"), "--pidfile", at("run", "docker.pid"),
		"--default-address-pool", "base=10.201.0.0/16,size=24", "--bip", strings.Replace(bridgeSubnet, ".0/", ".1/", 1),
		"--log-level", "warn")
	if d.opt.ContainerdStore {
		d.cmd.Args = append(d.cmd.Args, "--feature", "containerd-snapshotter=true")
	}
	// The shim has runc's name: the builder knows no other runtime.
	d.cmd.Env = append(withoutDocker(os.Environ()), "PATH="+strings.Join([]string{
		at("bin"), at("root", "usr", "bin"), at("root", "usr", "sbin"), os.Getenv("PATH"),
	}, ":"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // the signal is bound to the thread that forks
		defer close(d.done)
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.err = d.cmd.Wait()
		}
	}()
	return <-started
}

// lookForBridge notes whether the default bridge is going to be ours: it is not
// there yet, or a run that was killed has left it, as a file tells.
func (d *Docker) lookForBridge() error {
	_, err := net.InterfaceByName("docker0")
	_, left := os.Stat(d.bridgeFile())
	d.bridged = err != nil || left == nil
	if !d.bridged {
		return nil
	}
	return os.WriteFile(d.bridgeFile(), nil, 0o600)
}

func (d *Docker) bridgeFile() string { return filepath.Join(d.dir, "run", "bridge") }

// withoutDocker drops what is meant for another daemon.
func withoutDocker(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, v := range env {
		if !strings.HasPrefix(v, "DOCKER_") {
			kept = append(kept, v)
		}
	}
	return kept
}

func (d *Docker) waitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dockerStart)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !d.answers(ctx) {
		select {
		case <-d.done:
			return fmt.Errorf("it ended: %w\n%s", d.err, d.log())
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w\n%s", ctx.Err(), d.log())
		case <-ticker.C:
		}
	}
	return nil
}

func (d *Docker) answers(ctx context.Context) bool {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket())
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// log is the end of what the daemon said.
func (d *Docker) log() string {
	text, err := os.ReadFile(filepath.Join(d.dir, "dockerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// Stop ends the daemon, which ends its containers, and removes its bridge and
// its rules in the firewall, unless they were there before.
func (d *Docker) Stop() error {
	var errs []error
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, err)
	}
	timer := time.NewTimer(dockerStop)
	defer timer.Stop()
	select {
	case <-d.done:
	case <-timer.C:
		errs = append(errs, fmt.Errorf("it had to be killed\n%s", d.log()))
		if err := syscall.Kill(-d.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
		<-d.done
	}
	if d.bridged {
		if out, err := exec.Command("ip", "link", "delete", "docker0").CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("remove the bridge: %w: %s", err, out))
		}
		errs = append(errs, removeRules(), os.Remove(d.bridgeFile()))
	}
	errs = append(errs, d.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop Docker: %w", err)
	}
	return nil
}
