package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/terraform"
)

// stopGrace is how long a container may take to stop before it is killed.
const stopGrace = 10 * time.Second

// Restart restarts a component: the pods of a release or of a part of it, or
// the container of anything else. It does not wait until the component is ready.
func (s *Session) Restart(ctx context.Context, component string) error {
	t, err := s.target(ctx, component)
	if err != nil {
		return err
	}
	switch {
	case t.release != nil:
		if err := t.release.Restart(ctx, t.part); err != nil {
			return fault.Wrap(fault.Failed, err, "sandbox status", "%s was not restarted", component)
		}
		return nil
	case t.module != nil, t.image != nil:
		return fault.New(fault.Invalid, component+" can't be restarted", "nothing of it runs", "sandbox up")
	}
	return s.locked(ctx, "sandbox restart", func() error {
		for _, c := range t.containers {
			if err := s.engine.StopContainer(ctx, c.ID, stopGrace); err != nil {
				return fmt.Errorf("stop %s: %w", c.Name, err)
			}
			if err := s.engine.StartContainer(ctx, c.ID); err != nil {
				return fault.Wrap(fault.Failed, err, "sandbox up", "%s did not start again", c.Name)
			}
		}
		return nil
	})
}

// RestartCost says what a restart of the component costs beyond a moment, or "".
func RestartCost(component string) string {
	switch {
	case component == "aws" || strings.HasPrefix(component, "aws/"):
		return "the emulator forgets all it holds until the next up"
	case component == "cluster" || strings.HasPrefix(component, "cluster/"):
		return "all pods stop for a minute or two"
	}
	return ""
}

// own is held by what this process itself does to sandboxes: one thing waits for
// the other, where another process is refused.
var own = make(chan struct{}, 1)

// locked runs f while no other command changes the sandbox.
func (s *Session) locked(ctx context.Context, command string, f func() error) (err error) {
	if s.lock != nil {
		return f()
	}
	select {
	case own <- struct{}{}:
		defer func() { <-own }()
	case <-ctx.Done():
		return fault.New(fault.Timeout, command+" did not begin", "something else is still being done to the sandbox", "try again")
	}
	lock, err := s.dir.Lock(command)
	if err != nil {
		return err
	}
	defer func() {
		if unlockErr := lock.Unlock(); err == nil {
			err = unlockErr
		}
	}()
	return f()
}

// Describe returns all there is to know of a component, as text.
func (s *Session) Describe(ctx context.Context, component string) (string, error) {
	t, err := s.target(ctx, component)
	if err != nil {
		return "", err
	}
	switch {
	case t.release != nil:
		text, err := t.release.Describe(ctx, t.part)
		if err != nil {
			return "", fault.Wrap(fault.Failed, err, "sandbox status", "%s can't be described", component)
		}
		return text, nil
	case t.module != nil:
		return s.describeModule(ctx, *t.module)
	case t.image != nil:
		return s.describeImage(ctx, "image/"+t.image.Name)
	}
	var texts []string
	for _, c := range t.containers {
		text, err := describeContainer(c)
		if err != nil {
			return "", err
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "---\n"), nil
}

// PreviousLog returns what the containers of a release, or of a part of it,
// logged before they were last restarted.
func (s *Session) PreviousLog(ctx context.Context, component string) (string, error) {
	t, err := s.target(ctx, component)
	if err != nil {
		return "", err
	}
	if t.release == nil {
		return "", fault.New(fault.Invalid, component+" has no earlier log", "only the containers of pods keep one", "sandbox logs")
	}
	text, err := t.release.PreviousLog(ctx, t.part)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "sandbox logs", "no earlier log of %s", component)
	}
	return text, nil
}

func (s *Session) describeImage(ctx context.Context, id string) (string, error) {
	ref := s.ref(id)
	if ref == "" {
		return "", fault.New(fault.Unavailable, id+" can't be described", "it was not built yet", "sandbox up")
	}
	img, err := s.engine.Image(ctx, ref)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "sandbox up", "%s can't be described", id)
	}
	return asYAML(map[string]any{"reference": ref, "id": img.ID, "names": img.Names, "bytes": img.Size, "labels": img.Labels})
}

func describeContainer(c runtime.Container) (string, error) {
	facts := map[string]any{
		"name": c.Name, "id": c.ID, "image": c.Image, "state": c.State, "labels": c.Labels, "networks": c.IPs,
		"created": c.Created.Format(time.RFC3339),
	}
	var ports []string
	for _, p := range c.Ports {
		ports = append(ports, fmt.Sprintf("%s:%d -> %d", p.HostIP, p.HostPort, p.Container))
	}
	optional := map[string]any{"health": c.Health, "ports": ports, "pid": c.PID, "exitCode": c.ExitCode}
	if !c.Started.IsZero() {
		optional["started"] = c.Started.Format(time.RFC3339)
	}
	if !c.Running() && !c.Finished.IsZero() {
		optional["finished"] = c.Finished.Format(time.RFC3339)
	}
	for name, value := range optional {
		if text := fmt.Sprint(value); text != "" && text != "0" && text != "[]" {
			facts[name] = value
		}
	}
	return asYAML(facts)
}

func asYAML(v any) (string, error) {
	out, err := yaml.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("describe: %w", err)
	}
	return string(out), nil
}

// describeModule lists a module's outputs and the resources in its state.
func (s *Session) describeModule(ctx context.Context, t stack.Terraform) (string, error) {
	m, err := s.module(ctx, t)
	if err != nil {
		return "", err
	}
	outputs, err := m.Outputs(ctx)
	if err != nil {
		return "", err
	}
	shown := map[string]any{}
	for name, o := range outputs {
		shown[name] = o.Value
		if o.Sensitive {
			shown[name] = "(sensitive)"
		}
	}
	look, err := (&liveModule{s: s, spec: t}).Look(ctx)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "sandbox status", "the resources of %s can't be looked at", m.Component())
	}
	resources := map[string]string{}
	for _, r := range look.Resources {
		resources[r.Address] = strings.TrimSuffix(string(r.State)+", "+r.Detail, ", ")
	}
	return asYAML(map[string]any{"module": t.Name, "source": s.stack.Path(t.Dir), "outputs": shown, "resources": resources})
}

// Plan says what Terraform would do to a module, as text.
func (s *Session) Plan(ctx context.Context, name string) (text string, err error) {
	t, err := s.moduleSpec(name)
	if err != nil {
		return "", err
	}
	err = s.locked(ctx, "sandbox tf plan", func() error {
		m, err := s.module(ctx, t)
		if err != nil {
			return err
		}
		res, err := m.Plan(ctx, event.Discard)
		text = planText(res)
		return err
	})
	return text, err
}

// planSigns are Terraform's signs for what it does to a resource.
var planSigns = map[string]string{"create": "+", "update": "~", "delete": "-", "replace": "-/+", "read": "<="}

// planText is a plan as people read it.
func planText(res terraform.Result) string {
	if res.Unchanged {
		return "No changes: the emulator holds what the configuration says.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Plan: %d to add, %d to change, %d to destroy.\n\n", res.Added, res.Changed, res.Destroyed)
	for _, c := range res.Changes {
		sign := planSigns[c.Action]
		if sign == "" {
			sign = c.Action
		}
		fmt.Fprintf(&b, "%3s %s\n", sign, c.Address)
		for _, a := range c.Attributes {
			fmt.Fprintf(&b, "      %s\n", a)
		}
	}
	return b.String()
}

// Apply applies a module and returns what that did, in one line.
func (s *Session) Apply(ctx context.Context, name string, rep event.Reporter) (note string, err error) {
	t, err := s.moduleSpec(name)
	if err != nil {
		return "", err
	}
	err = s.locked(ctx, "sandbox tf apply", func() (err error) {
		note, err = s.apply(ctx, t, rep)
		return err
	})
	return note, err
}

// apply is Apply for who holds the lock.
func (s *Session) apply(ctx context.Context, t stack.Terraform, rep event.Reporter) (note string, err error) {
	m, err := s.module(ctx, t)
	if err != nil {
		return "", err
	}
	res, err := m.Apply(ctx, rep)
	return res.String(), err
}

func (s *Session) moduleSpec(name string) (stack.Terraform, error) {
	list := s.stack.Spec.Terraform
	if i := slices.IndexFunc(list, func(t stack.Terraform) bool { return t.Name == name }); i >= 0 {
		return list[i], nil
	}
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	why := "the stack has no Terraform modules"
	if len(names) > 0 {
		why = "the stack has " + strings.Join(names, ", ")
	}
	return stack.Terraform{}, fault.New(fault.Invalid, fmt.Sprintf("no Terraform module %q", name), why, "sandbox status")
}

// Drift compares a module with the emulator in full.
func (s *Session) Drift(ctx context.Context, name string) (event.ModuleChanged, error) {
	t, err := s.moduleSpec(name)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	found, err := (&liveModule{s: s, spec: t}).Refresh(ctx)
	found.Drift = found.Differing()
	return found, err
}

// URL is where a component answers on this host.
func (s *Session) URL(ctx context.Context, component string) (string, error) {
	var with []string
	known := false
	for _, h := range s.health(ctx) {
		known = known || h.Component == component
		if h.URL == "" {
			continue
		}
		if h.Component == component {
			return h.URL, nil
		}
		with = append(with, h.Component)
	}
	what := component + " has no URL"
	if !known {
		what = fmt.Sprintf("no component %q", component)
	}
	return "", fault.New(fault.Invalid, what, "those with a URL are "+strings.Join(with, ", "), "sandbox status")
}

// Modules are the names of the stack's Terraform modules.
func (s *Session) Modules() []string {
	var names []string
	for _, t := range s.stack.Spec.Terraform {
		names = append(names, t.Name)
	}
	return names
}

// Modules returns the names of a sandbox's Terraform modules, for completion;
// none where the sandbox is not clear.
func Modules(name string) []string { return complete(name, (*Session).Modules) }

// Components returns the components of a sandbox, for completion.
func Components(name string) []string {
	return complete(name, (*Session).components)
}

func complete(name string, list func(*Session) []string) []string {
	name, err := One(name)
	if err != nil {
		return nil
	}
	s, err := recorded(name)
	if err != nil {
		return nil
	}
	return list(s)
}
