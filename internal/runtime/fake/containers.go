package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// killed is the exit code of a process that SIGKILL ended.
const killed = 137

// container is a container and the program that it runs. Its fields are
// guarded by Runtime.mu.
type container struct {
	spec   runtime.ContainerSpec
	state  runtime.Container
	fixed  map[string]string // network name → fixed address
	log    *output
	cancel context.CancelFunc // SIGTERM
	done   chan struct{}      // closed when the container has ended
	kill   chan struct{}      // closed by SIGKILL
}

// find finds a container by name or ID; mu is held.
func (r *Runtime) find(nameOrID string) *container {
	for _, c := range r.containers {
		if c.state.Name == nameOrID || c.state.ID == nameOrID {
			return c
		}
	}
	return nil
}

// lookUp finds a container by name or ID.
func (r *Runtime) lookUp(nameOrID string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.find(nameOrID); c != nil {
		return c, nil
	}
	return nil, notFound("container", nameOrID)
}

// CreateContainer creates a container, whose image has to be in the store.
func (r *Runtime) CreateContainer(ctx context.Context, spec runtime.ContainerSpec) (runtime.Container, error) {
	if err := r.enter(ctx, "CreateContainer", spec.Name); err != nil {
		return runtime.Container{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	image, ok := r.findImage(spec.Image)
	if !ok {
		return runtime.Container{}, fmt.Errorf("create container %q: %w", spec.Name, notFound("image", spec.Image))
	}
	if r.find(spec.Name) != nil {
		return runtime.Container{}, fmt.Errorf("create container %q: the name is taken", spec.Name)
	}
	c := &container{spec: spec, fixed: map[string]string{}, log: newOutput()}
	c.state = runtime.Container{
		ID: r.newID(), Name: spec.Name, Image: spec.Image, ImageID: image.ID, Labels: maps.Clone(spec.Labels),
		State: "created", Created: time.Now(), IPs: map[string]string{}, Aliases: map[string][]string{},
	}
	if spec.Network != "" {
		c.state.Aliases[spec.Network] = slices.Clone(spec.Aliases)
	}
	for i, p := range spec.Ports {
		p.HostIP = cmp.Or(p.HostIP, "127.0.0.1")
		p.HostPort = cmp.Or(p.HostPort, 30000+100*r.lastID+i)
		c.state.Ports = append(c.state.Ports, p)
	}
	r.containers = append(r.containers, c)
	r.emit("create", c)
	return c.state, nil
}

// StartContainer runs the container's program.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	if err := r.enter(ctx, "StartContainer", id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(id)
	if c == nil {
		return notFound("container", id)
	}
	switch c.state.State {
	case "running":
		return nil
	case "paused":
		c.state.State = "running"
		r.emit("unpause", c)
		return nil
	}
	for name := range c.state.Aliases {
		if r.taken(c, name, c.fixed[name]) {
			delete(c.fixed, name)
		}
		if err := r.assign(c, name, c.fixed[name]); err != nil {
			return fmt.Errorf("start container %q: %w", c.state.Name, err)
		}
	}
	running, cancel := context.WithCancel(context.Background())
	c.cancel, c.done, c.kill = cancel, make(chan struct{}), make(chan struct{})
	r.lastID++
	c.state.State, c.state.PID, c.state.ExitCode = "running", 1000+r.lastID, 0
	c.state.Started, c.state.Finished = time.Now(), time.Time{}
	c.log.open()
	command := append(slices.Clone(c.spec.Entrypoint), c.spec.Cmd...)
	go r.run(running, c, command)
	r.emit("start", c)
	return nil
}

// run runs the container's program to its end.
func (r *Runtime) run(ctx context.Context, c *container, command []string) {
	result := make(chan int, 1)
	go func() {
		program, args := r.program(command)
		result <- program(ctx, Process{Args: args, Env: c.spec.Env, Stdin: strings.NewReader(""), Stdout: c.log, Stderr: c.log})
	}()
	code := killed
	select {
	case code = <-result:
	case <-c.kill:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.cancel()
	c.state.State, c.state.PID, c.state.ExitCode, c.state.Finished = "exited", 0, code, time.Now()
	c.log.close()
	r.emit("die", c)
	close(c.done)
}

// program finds what the command runs: the program of its first word, or the
// only program there is, as the image's entrypoint, with all words as its
// arguments.
func (r *Runtime) program(command []string) (Program, []string) {
	if len(command) > 0 {
		if p, ok := r.Programs[command[0]]; ok {
			return p, command[1:]
		}
	}
	if len(r.Programs) == 1 {
		for _, p := range r.Programs {
			return p, command
		}
	}
	return func(ctx context.Context, _ Process) int { <-ctx.Done(); return 0 }, command
}

// StopContainer ends the container's program.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := r.enter(ctx, "StopContainer", id); err != nil {
		return err
	}
	c, err := r.lookUp(id)
	if err != nil {
		return err
	}
	r.stop(c, grace)
	return nil
}

func (r *Runtime) stop(c *container, grace time.Duration) {
	r.mu.Lock()
	if c.state.State == "paused" {
		c.state.State = "running"
	}
	running, cancel, done, kill := c.state.Running(), c.cancel, c.done, c.kill
	r.mu.Unlock()
	if !running {
		return
	}
	cancel()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	r.mu.Lock()
	select {
	case <-kill:
	default:
		close(kill)
	}
	r.mu.Unlock()
	<-done
}

// RemoveContainer kills and removes the container.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	if err := r.enter(ctx, "RemoveContainer", id); err != nil {
		return err
	}
	c, err := r.lookUp(id)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.stop(c, 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.containers, c); i >= 0 {
		r.containers = slices.Delete(r.containers, i, i+1)
		r.emit("remove", c)
	}
	return nil
}

// Container inspects by name or ID.
func (r *Runtime) Container(ctx context.Context, nameOrID string) (runtime.Container, error) {
	if err := r.enter(ctx, "Container", nameOrID); err != nil {
		return runtime.Container{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(nameOrID)
	if c == nil {
		return runtime.Container{}, notFound("container", nameOrID)
	}
	return c.snapshot(), nil
}

// Containers lists the containers with the labels.
func (r *Runtime) Containers(ctx context.Context, labels map[string]string) ([]runtime.Container, error) {
	if err := r.enter(ctx, "Containers", ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []runtime.Container
	for _, c := range r.containers {
		if runtime.MatchLabels(c.state.Labels, labels) {
			found = append(found, c.snapshot())
		}
	}
	slices.SortFunc(found, func(a, b runtime.Container) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// snapshot copies the state, so that a caller's copy stays as it is.
func (c *container) snapshot() runtime.Container {
	s := c.state
	s.Labels, s.IPs, s.Ports = maps.Clone(s.Labels), maps.Clone(s.IPs), slices.Clone(s.Ports)
	s.Aliases = maps.Clone(s.Aliases)
	return s
}

// Exec runs the program that the command's first word names.
func (r *Runtime) Exec(ctx context.Context, id string, spec runtime.ExecSpec) (int, error) {
	if err := r.enter(ctx, "Exec", id+" "+strings.Join(spec.Cmd, " ")); err != nil {
		return -1, err
	}
	c, err := r.lookUp(id)
	if err != nil {
		return -1, err
	}
	r.mu.Lock()
	running, ended := c.state.Running(), c.done
	env := maps.Clone(c.spec.Env)
	r.mu.Unlock()
	if !running {
		return -1, fmt.Errorf("run %q: container %s does not run", strings.Join(spec.Cmd, " "), c.state.Name)
	}
	if len(spec.Cmd) == 0 {
		return -1, errors.New("run a command: it is empty")
	}
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, spec.Env)
	program, ok := r.Programs[spec.Cmd[0]]
	if !ok {
		if len(r.Programs) > 0 {
			return 127, fmt.Errorf("run %q: no such program", spec.Cmd[0])
		}
		return 0, nil
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan int, 1)
	go func() {
		result <- program(life, Process{
			Args: spec.Cmd[1:], Env: env,
			Stdin: orEmpty(spec.Stdin), Stdout: orDiscard(spec.Stdout), Stderr: orDiscard(spec.Stderr),
		})
	}()
	select {
	case code := <-result:
		return code, ctx.Err()
	case <-ctx.Done():
		return -1, ctx.Err()
	case <-ended:
		return killed, nil
	}
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return strings.NewReader("")
	}
	return r
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
