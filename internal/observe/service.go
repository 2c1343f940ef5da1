package observe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// labelSpec carries the hash of what a container was created from.
const labelSpec = "sandbox.spec"

const (
	readyTimeout = 2 * time.Minute        // Prometheus may have to replay its log
	readyPoll    = 150 * time.Millisecond // between two looks at readiness
	probeTimeout = 3 * time.Second        // of one look
	graceStarted = 30 * time.Second       // after its start a service may be not ready
	logTail      = 15                     // lines of a dead container's log in an error
)

// service is one container that answers HTTP.
type service struct {
	rt         runtime.Runtime
	common     Common
	component  string // observe/prometheus
	alias      string // its name on the network
	port       int    // inside the container
	hostPort   int    // 0: the engine chooses
	readyPath  string
	reloadPath string // "": a changed configuration needs a new container
}

func (s *service) containerName() string { return "sandbox-" + s.common.Sandbox + "-" + s.alias }

// title is the service's name in messages.
func (s *service) title() string { return s.alias }

// complete fills in what is the same for every service and returns the spec
// with its hash: the identity of the container. Two specs with the same hash
// make the same container, whatever run creates it.
func (s *service) complete(ctx context.Context, spec runtime.ContainerSpec) (runtime.ContainerSpec, error) {
	info, err := s.rt.Info(ctx)
	if err != nil {
		return spec, fmt.Errorf("ask the engine what it is: %w", err)
	}
	img, err := s.rt.Image(ctx, spec.Image)
	if err != nil {
		return spec, &fault.Error{
			Code: fault.Unavailable, What: fmt.Sprintf("%s can't start: image %s is not in the engine's store", s.title(), spec.Image),
			Try: "sandbox images list", Cause: err,
		}
	}
	spec.Name = s.containerName()
	spec.User = info.Owner()
	spec.Network = s.common.Network
	spec.Aliases = []string{s.alias}
	spec.Ports = []runtime.Port{{HostIP: "127.0.0.1", HostPort: s.hostPort, Container: s.port}}
	spec.Restart = true
	spec.Labels = maps.Clone(s.common.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[runtime.LabelName] = s.common.Sandbox
	spec.Labels[runtime.LabelComponent] = s.component
	delete(spec.Labels, runtime.LabelRun)

	identity, err := json.Marshal(struct {
		Spec  runtime.ContainerSpec
		Image string
	}{spec, img.ID})
	if err != nil {
		return spec, fmt.Errorf("hash the container's description: %w", err)
	}
	sum := sha256.Sum256(identity)
	spec.Labels[labelSpec] = hex.EncodeToString(sum[:])
	spec.Labels[runtime.LabelRun] = s.common.Run
	return spec, nil
}

// find returns our container, or ErrNotFound. A container of that name that is
// not ours is a conflict; it is never touched.
func (s *service) find(ctx context.Context) (runtime.Container, error) {
	c, err := s.rt.Container(ctx, s.containerName())
	if err != nil {
		return c, fmt.Errorf("look for container %s: %w", s.containerName(), err)
	}
	if c.Labels[runtime.LabelName] != s.common.Sandbox || c.Labels[runtime.LabelComponent] != s.component {
		return c, fault.New(fault.Conflict,
			fmt.Sprintf("a container named %s is in the way", s.containerName()),
			"it was not created by this sandbox, so it is left alone",
			"rename or remove that container, or give this sandbox another name with --name")
	}
	return c, nil
}

// current reports whether the container is there, as described, and running.
func (s *service) current(ctx context.Context, spec runtime.ContainerSpec) (bool, error) {
	c, err := s.find(ctx)
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return c.Running() && c.Labels[labelSpec] == spec.Labels[labelSpec], nil
}

// ensure makes the container exist as described and run, and waits until it
// is ready. It reports whether it had to start it.
func (s *service) ensure(ctx context.Context, spec runtime.ContainerSpec, rep event.Reporter) (started bool, err error) {
	c, err := s.find(ctx)
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		c, err = s.create(ctx, spec, rep)
	case err != nil:
		return false, err
	case c.Labels[labelSpec] != spec.Labels[labelSpec]:
		rep.Log("sandbox", s.title()+" is described differently now: replacing its container")
		if err := s.rt.RemoveContainer(ctx, c.ID); err != nil {
			return false, fmt.Errorf("remove the old %s: %w", s.title(), err)
		}
		c, err = s.create(ctx, spec, rep)
	case c.Running():
		return false, s.waitReady(ctx, c.ID, rep)
	case c.Paused(): // it goes on with the configuration that it has
		rep.Log("sandbox", s.title()+" was paused: it goes on")
		if err := s.rt.StartContainer(ctx, c.ID); err != nil {
			return false, fmt.Errorf("go on with the paused %s: %w", s.title(), err)
		}
		return false, s.waitReady(ctx, c.ID, rep)
	}
	if err != nil {
		return false, err
	}
	rep.Progress(event.Progress{Text: "starting " + s.title()})
	err = s.rt.StartContainer(ctx, c.ID)
	if errors.Is(err, runtime.ErrLost) {
		rep.Log("sandbox", "the engine has lost track of "+s.title()+": creating it anew")
		if err := s.rt.RemoveContainer(ctx, c.ID); err != nil {
			return false, fmt.Errorf("remove the lost %s: %w", s.title(), err)
		}
		if c, err = s.create(ctx, spec, rep); err != nil {
			return false, err
		}
		err = s.rt.StartContainer(ctx, c.ID)
	}
	if err != nil {
		return false, s.startFailed(ctx, c.ID, err)
	}
	return true, s.waitReady(ctx, c.ID, rep)
}

func (s *service) create(ctx context.Context, spec runtime.ContainerSpec, rep event.Reporter) (runtime.Container, error) {
	rep.Progress(event.Progress{Text: "creating " + s.title()})
	c, err := s.rt.CreateContainer(ctx, spec)
	if err != nil {
		return c, fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	return c, nil
}

// startFailed removes the container that would not start, so that a failure
// leaves nothing behind, and returns why it did not.
func (s *service) startFailed(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.rt.RemoveContainer(ctx, id); err != nil {
		cause = errors.Join(cause, fmt.Errorf("remove it again: %w", err))
	}
	var known *fault.Error
	if errors.As(cause, &known) {
		return cause
	}
	return fault.Wrap(fault.Failed, cause, "sandbox up --ports auto, if a port is taken", "%s can't be started", s.title())
}

// waitReady waits until the service says that it is ready. A container that
// dies, or that the engine restarts meanwhile, ends the wait with its log.
func (s *service) waitReady(ctx context.Context, id string, rep event.Reporter) error {
	var (
		first time.Time // when the container was started, at the first look
		said  string    // the blocker last reported
	)
	look := func() (struct{}, error) {
		c, err := s.rt.Container(ctx, id)
		if err != nil {
			return struct{}{}, backoff.Permanent(fmt.Errorf("inspect %s: %w", s.title(), err))
		}
		if first.IsZero() {
			first = c.Started
		}
		if !c.Running() || !c.Started.Equal(first) {
			return struct{}{}, backoff.Permanent(s.died(ctx, c))
		}
		return struct{}{}, s.probe(ctx, c)
	}
	_, err := backoff.Retry(ctx, look,
		backoff.WithBackOff(backoff.NewConstantBackOff(readyPoll)),
		backoff.WithMaxElapsedTime(readyTimeout),
		backoff.WithNotify(func(err error, _ time.Duration) {
			if blocker := shortError(err.Error()); blocker != said {
				said = blocker
				rep.Progress(event.Progress{Text: "waiting for " + s.title(), Blockers: []string{blocker}})
			}
		}))
	var known *fault.Error
	if err == nil || errors.As(err, &known) || ctx.Err() != nil {
		return err
	}
	return &fault.Error{
		Code: fault.Timeout, What: fmt.Sprintf("%s was not ready within %s", s.title(), readyTimeout),
		Try: "sandbox logs " + s.component, Log: s.tail(ctx, id), Cause: err,
	}
}

// died describes a container that does not stay up, and stops it, so that the
// engine does not start it over and over. It stays there for its log.
func (s *service) died(ctx context.Context, c runtime.Container) error {
	f := &fault.Error{
		Code: fault.Failed, What: s.title() + " stopped right after its start",
		Why: exitReason(c), Try: "sandbox logs " + s.component, Log: s.tail(ctx, c.ID),
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.rt.StopContainer(ctx, c.ID, time.Second); err != nil {
		f.Cause = fmt.Errorf("stop %s: %w", s.title(), err)
	}
	return f
}

func exitReason(c runtime.Container) string {
	switch {
	case c.OOM:
		return "killed: it used more memory than its limit"
	case c.Running():
		return "the engine restarted its container"
	case c.Paused():
		return "its container is paused"
	default:
		return fmt.Sprintf("its container is %s, exit code %d", c.State, c.ExitCode)
	}
}

// tail returns the end of the container's log, for an error; a log that can't
// be read is no reason to lose the error.
func (s *service) tail(ctx context.Context, id string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	var out bytes.Buffer
	if err := s.rt.Logs(ctx, id, runtime.LogOptions{Tail: logTail}, &out); err != nil {
		return []string{"its log can't be read: " + err.Error()}
	}
	text := strings.TrimRight(out.String(), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// baseURL is where the service answers on this host.
func baseURL(c runtime.Container, port int) (string, error) {
	for _, p := range c.Ports {
		if p.Container == port && p.HostPort != 0 {
			return fmt.Sprintf("http://127.0.0.1:%d", p.HostPort), nil
		}
	}
	return "", fmt.Errorf("container %s does not publish port %d", c.Name, port)
}

// url finds the container and returns where it answers.
func (s *service) url(ctx context.Context) (string, error) {
	c, err := s.find(ctx)
	if err != nil {
		return "", err
	}
	return baseURL(c, s.port)
}

// local is the client for the services: never through a proxy, since they are
// on this host.
var local = &http.Client{Transport: &http.Transport{
	Proxy:               nil,
	MaxIdleConnsPerHost: 2,
	IdleConnTimeout:     10 * time.Second,
}}

// probe asks the service once whether it is ready.
func (s *service) probe(ctx context.Context, c runtime.Container) error {
	base, err := baseURL(c, s.port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = request(ctx, http.MethodGet, base+s.readyPath)
	return err
}

// request returns the answer's body, or an error with what the service said.
func request(ctx context.Context, method, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := local.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &statusError{status: resp.Status, body: strings.TrimSpace(string(body))}
	}
	return body, nil
}

// statusError is an answer other than success.
type statusError struct{ status, body string }

func (e *statusError) Error() string {
	if e.body == "" {
		return e.status
	}
	line, _, _ := strings.Cut(e.body, "\n")
	return e.status + ": " + line
}
