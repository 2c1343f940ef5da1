// Package box runs this program in containers on a sandbox's network. They are of
// an image that the stack has anyway, with the program bound into it, so that
// nothing has to be fetched or built for them.
package box

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	// labelSpec carries the hash of what a container was created from.
	labelSpec = "sandbox.spec"
	// labelProgram carries the hash of the program that a container runs.
	labelProgram = "sandbox.program"

	programPath = "/sandbox" // in the container

	readyTimeout = 30 * time.Second
	readyPoll    = 50 * time.Millisecond
	probeTimeout = 2 * time.Second
	graceStarted = 10 * time.Second // after its start one may be not ready
	logTail      = 15               // lines of a dead container's log in an error
)

// Spec describes a container that runs this program.
type Spec struct {
	// Sandbox and Run are for labels, Component is what it is of: drill/receiver.
	Sandbox, Run, Component string
	// Alias is its name on Network, and ends that of the container.
	Alias, Network string
	// Image is a reference in the engine's store.
	Image string
	// Args are those of `sandbox agent`.
	Args []string
	Env  map[string]string
	// Mounts are bound besides the program.
	Mounts []runtime.Mount
	// Port is where it says that it is ready, at agent.PathHealth. It is published
	// on 127.0.0.1, as a free one.
	Port int
	// Restart starts it again when it ends, unless it was stopped.
	Restart bool
	// Cache is the folder for the copy of the program.
	Cache string
	// Program is the program to run; "" stands for this one.
	Program string
}

// ContainerName is the name of the container.
func (s Spec) ContainerName() string { return "sandbox-" + s.Sandbox + "-" + s.Alias }

// Box is a container that runs this program.
type Box struct {
	runtime.Container
	// URL is where it answers on this host.
	URL string
	// Changed says that Ensure had to create it.
	Changed bool
}

// Ensure makes the container exist as described, and waits until it is ready. One
// that is described differently, or does not run, is replaced.
func Ensure(ctx context.Context, rt runtime.Runtime, s Spec) (Box, error) {
	spec, err := s.container(ctx, rt)
	if err != nil {
		return Box{}, err
	}
	c, err := s.find(ctx, rt)
	switch {
	case errors.Is(err, runtime.ErrNotFound):
	case err != nil:
		return Box{}, err
	case c.Running() && c.Labels[labelSpec] == spec.Labels[labelSpec]:
		return s.ready(ctx, rt, c)
	default:
		if err := rt.RemoveContainer(ctx, c.ID); err != nil {
			return Box{}, fmt.Errorf("remove the old container %s: %w", c.Name, err)
		}
	}
	if c, err = rt.CreateContainer(ctx, spec); err != nil {
		return Box{}, fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	if err := rt.StartContainer(ctx, c.ID); err != nil {
		err = fault.Wrap(fault.Failed, err, "the same command again", "%s can't be started", s.Component)
		return Box{}, errors.Join(err, discard(ctx, rt, c.ID))
	}
	b, err := s.ready(ctx, rt, c)
	b.Changed = true
	return b, err
}

// Remove removes the container, where there is one.
func Remove(ctx context.Context, rt runtime.Runtime, s Spec) error {
	c, err := s.find(ctx, rt)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := rt.RemoveContainer(ctx, c.ID); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	return nil
}

// Find returns the container, or an error that is runtime.ErrNotFound.
func Find(ctx context.Context, rt runtime.Runtime, s Spec) (Box, error) {
	c, err := s.find(ctx, rt)
	if err != nil {
		return Box{}, err
	}
	url, err := s.url(c)
	return Box{Container: c, URL: url}, err
}

// Health looks at the container and asks it whether it is ready.
func Health(ctx context.Context, rt runtime.Runtime, s Spec) event.Health {
	h := event.Health{Component: s.Component, State: event.StateFailed}
	c, err := s.find(ctx, rt)
	var known *fault.Error
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		h.Reason, h.Try = "its container is not there", "sandbox up"
		return h
	case errors.As(err, &known):
		h.Reason, h.Try = known.What, known.Try
		return h
	case err != nil:
		h.State, h.Reason = event.StateStale, "the engine does not say: "+err.Error()
		return h
	case !c.Running():
		h.Reason, h.Try, h.Since = ended(c), "sandbox up", c.Finished
		if lines := tail(ctx, rt, c.ID); len(lines) > 0 {
			h.Reason += ": " + lines[len(lines)-1]
		}
		return h
	}
	url, err := s.url(c)
	if err == nil {
		h.URL = url
		err = probe(ctx, url)
	}
	switch {
	case err == nil:
		h.State, h.Since = event.StateOK, c.Started
	case time.Since(c.Started) < graceStarted:
		h.State, h.Reason = event.StateWorking, "not ready: "+cause(err)
	default:
		h.Reason, h.Try = "not ready: "+cause(err), "sandbox logs "+s.Component
	}
	return h
}

// container returns the description of the container with the hash that is its
// identity: two with the same hash are the same, whatever run creates them.
func (s Spec) container(ctx context.Context, rt runtime.Runtime) (runtime.ContainerSpec, error) {
	img, err := rt.Image(ctx, s.Image)
	if err != nil {
		return runtime.ContainerSpec{}, &fault.Error{
			Code: fault.Unavailable, What: s.Component + " can't start: image " + cmp.Or(s.Image, "(none)") + " is not in the engine's store",
			Try: "sandbox up", Cause: err,
		}
	}
	info, err := rt.Info(ctx)
	if err != nil {
		return runtime.ContainerSpec{}, fmt.Errorf("ask the engine what it is: %w", err)
	}
	p, err := install(ctx, rt, s.Cache, s.Program)
	if err != nil {
		return runtime.ContainerSpec{}, err
	}
	spec := runtime.ContainerSpec{
		Name: s.ContainerName(), Image: s.Image,
		Entrypoint: []string{programPath}, Cmd: slices.Concat([]string{"agent"}, s.Args), Env: s.Env,
		User: info.Owner(), Network: s.Network, Aliases: []string{s.Alias},
		Ports:   []runtime.Port{{HostIP: "127.0.0.1", Container: s.Port}},
		Mounts:  append(slices.Clone(s.Mounts), runtime.Mount{Source: p.path, Target: programPath, ReadOnly: true}),
		Restart: s.Restart,
		Labels: map[string]string{
			runtime.LabelName: s.Sandbox, runtime.LabelComponent: s.Component, labelProgram: p.hash,
		},
	}
	identity, err := json.Marshal(struct {
		Spec  runtime.ContainerSpec
		Image string
	}{spec, img.ID})
	if err != nil {
		return spec, fmt.Errorf("hash the container's description: %w", err)
	}
	sum := sha256.Sum256(identity)
	spec.Labels[labelSpec] = hex.EncodeToString(sum[:])
	spec.Labels[runtime.LabelRun] = s.Run
	return spec, nil
}

// find returns our container. One of that name that is not ours is a conflict.
func (s Spec) find(ctx context.Context, rt runtime.Runtime) (runtime.Container, error) {
	c, err := rt.Container(ctx, s.ContainerName())
	if err != nil {
		return c, fmt.Errorf("look for container %s: %w", s.ContainerName(), err)
	}
	if c.Labels[runtime.LabelName] != s.Sandbox || c.Labels[runtime.LabelComponent] != s.Component {
		return c, fault.New(fault.Conflict, "a container named "+c.Name+" is in the way",
			"it was not created by this sandbox, so it is left alone",
			"rename or remove that container, or give this sandbox another name with --name")
	}
	return c, nil
}

// ready waits until the program in the container says that it is ready. One that
// ends meanwhile, or is started again, is removed and explained by its log.
func (s Spec) ready(ctx context.Context, rt runtime.Runtime, created runtime.Container) (Box, error) {
	var started time.Time
	look := func() (Box, error) {
		c, err := rt.Container(ctx, created.ID)
		if err != nil {
			return Box{}, backoff.Permanent(fmt.Errorf("look at container %s: %w", created.Name, err))
		}
		if started.IsZero() {
			started = c.Started
		}
		if !c.Running() || !c.Started.Equal(started) {
			f := &fault.Error{
				Code: fault.Failed, What: s.Component + " stopped right after its start", Why: ended(c),
				Try: "the same command again", Log: tail(ctx, rt, c.ID),
			}
			f.Cause = discard(ctx, rt, c.ID)
			return Box{}, backoff.Permanent(f)
		}
		url, err := s.url(c)
		if err != nil {
			return Box{}, backoff.Permanent(err)
		}
		return Box{Container: c, URL: url}, probe(ctx, url)
	}
	b, err := backoff.Retry(ctx, look, backoff.WithBackOff(backoff.NewConstantBackOff(readyPoll)), backoff.WithMaxElapsedTime(readyTimeout))
	var known *fault.Error
	if err == nil || errors.As(err, &known) || ctx.Err() != nil {
		return b, err
	}
	return b, &fault.Error{
		Code: fault.Timeout, What: fmt.Sprintf("%s was not ready within %s", s.Component, readyTimeout),
		Why: cause(err), Try: "the same command again", Log: tail(ctx, rt, created.ID), Cause: err,
	}
}

// discard removes a container that is of no use, so that a failure leaves nothing
// behind.
func discard(ctx context.Context, rt runtime.Runtime, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return rt.RemoveContainer(ctx, id)
}

func ended(c runtime.Container) string {
	switch {
	case c.OOM:
		return "killed: it used more memory than its limit"
	case c.Running():
		return "the engine restarted its container"
	default:
		return fmt.Sprintf("its container is %s, exit code %d", c.State, c.ExitCode)
	}
}

// tail returns the end of the container's log; one that can't be read says so.
func tail(ctx context.Context, rt runtime.Runtime, id string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	var out bytes.Buffer
	if err := rt.Logs(ctx, id, runtime.LogOptions{Tail: logTail}, &out); err != nil {
		return []string{"its log can't be read: " + err.Error()}
	}
	return strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' })
}

// url is where the container answers on this host.
func (s Spec) url(c runtime.Container) (string, error) {
	for _, p := range c.Ports {
		if p.Container == s.Port && p.HostPort != 0 {
			return fmt.Sprintf("http://127.0.0.1:%d", p.HostPort), nil
		}
	}
	return "", fmt.Errorf("container %s does not publish port %d", c.Name, s.Port)
}

// local never goes through a proxy: the containers' ports are on this host.
var local = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// probe asks once whether the program is ready.
func probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+agent.PathHealth, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := local.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// cause is the end of an error of Go's HTTP client, without the addresses.
func cause(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}
