package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/image"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/release"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
	"github.com/sandbox-stack/sandbox/internal/terraform"
)

// part returns what makes an item of the plan real.
func (s *Session) part(it plan.Item) plan.Part {
	switch it.Kind {
	case plan.Network:
		return s.ensureNetwork
	case plan.Platform:
		return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			return s.ensurePlatform(ctx, it.Name, rep)
		}
	case plan.Cluster:
		return s.ensureCluster
	case plan.ClusterReady:
		return s.ensureClusterReady
	case plan.Emulator:
		return s.ensureEmulator
	case plan.Binding:
		return s.ensureBinding
	case plan.BuildImage:
		return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			return s.buildImage(ctx, it.Name, rep)
		}
	case plan.Load:
		return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			return s.loadImage(ctx, it.Name, rep)
		}
	case plan.Toolchain:
		return s.ensureToolchain
	case plan.Init:
		return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			return s.initModule(ctx, it.Name, rep)
		}
	case plan.Module:
		return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			return s.applyModule(ctx, it.Name, rep)
		}
	case plan.Prune:
		return s.pruneReleases
	case plan.Release:
		return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			return s.installRelease(ctx, it.Name, rep)
		}
	case plan.Prometheus:
		return s.ensurePrometheus
	case plan.Alertmanager:
		return s.ensureAlertmanager
	case plan.Grafana:
		return s.ensureGrafana
	case plan.Exporter:
		return s.ensureExporter
	case plan.Discovery:
		return s.ensureDiscovery
	case plan.Healthy:
		return s.ensureHealthy
	}
	return func(context.Context, event.Reporter) (steps.Result, error) {
		return steps.Result{}, fmt.Errorf("%s: %w", it.ID, errNoPart)
	}
}

// errNoPart is a mistake in this program: a plan with an item that nothing here
// makes real.
var errNoPart = errors.New("nothing makes this part of the plan")

func (s *Session) ensureNetwork(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	rep.Log("sandbox", "container engine "+s.info.Engine+" "+s.info.Version+": "+s.found.Why)
	nets, err := s.engine.Networks(ctx, map[string]string{runtime.LabelName: s.name})
	if err != nil {
		return steps.Result{}, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range nets {
		if n.Name == s.network() {
			return steps.Result{Done: true, Note: strings.Join(n.Subnets, " ")}, nil
		}
	}
	n, err := s.engine.CreateNetwork(ctx, s.network(), s.labels("network"))
	if err != nil {
		return steps.Result{}, fmt.Errorf("create network %s: %w", s.network(), err)
	}
	return steps.Result{Note: strings.Join(n.Subnets, " ")}, nil
}

// ensurePlatform brings a platform image into the engine's store. One that can
// come from nowhere leaves its component off, unless that was forbidden or the
// stack is nothing without it.
func (s *Session) ensurePlatform(ctx context.Context, name string, rep event.Reporter) (steps.Result, error) {
	got, err := s.resolver.Ensure(ctx, name, rep)
	var unavailable *image.Unavailable
	if errors.As(err, &unavailable) {
		if name == plan.GrafanaImage && !s.opt.Strict {
			return steps.Result{}, errors.Join(s.setRef(offFact+name, unavailable.Reason), &steps.Off{Reason: unavailable.Reason, Cause: err})
		}
		return steps.Result{}, fault.Wrap(fault.Unavailable, err, "sandbox images list", "no image for %s", name)
	}
	if err != nil {
		return steps.Result{}, err
	}
	if err := s.setRef(name, got.Ref); err != nil {
		return steps.Result{}, err
	}
	return steps.Result{Done: got.Source == image.SourceStore, Note: got.Version + " from " + string(got.Source)}, nil
}

// offFact leads the reason for which a component is off.
const offFact = "off/"

// ensureCluster brings the cluster up to an answering API server. What else
// runs in it is waited for in ensureClusterReady, beside everything that needs
// the API only.
func (s *Session) ensureCluster(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	c, err := s.cluster()
	if err != nil {
		return steps.Result{}, err
	}
	changed, err := c.Ensure(ctx, rep)
	if err != nil {
		return steps.Result{}, err
	}
	installed, err := c.InstallAddons(ctx, rep)
	return steps.Result{Done: !changed && !installed, Note: c.Name()}, err
}

func (s *Session) ensureClusterReady(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	c, err := s.cluster()
	if err != nil {
		return steps.Result{}, err
	}
	ready := func(h event.Health) bool { return h.Component == "cluster" && h.State == event.StateOK }
	if slices.ContainsFunc(c.Health(ctx), ready) {
		return steps.Result{Done: true}, nil
	}
	return steps.Result{}, c.WaitReady(ctx, rep)
}

func (s *Session) ensureEmulator(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	e, err := s.emulator()
	if err != nil {
		return steps.Result{}, err
	}
	changed, err := e.Ensure(ctx, rep)
	if err != nil {
		return steps.Result{}, err
	}
	url, err := e.Endpoint(ctx)
	return steps.Result{Done: !changed, Note: url}, err
}

func (s *Session) ensureBinding(ctx context.Context, _ event.Reporter) (steps.Result, error) {
	e, err := s.emulator()
	if err != nil {
		return steps.Result{}, err
	}
	c, err := s.cluster()
	if err != nil {
		return steps.Result{}, err
	}
	client, err := c.Client()
	if err != nil {
		return steps.Result{}, err
	}
	binding, err := s.binding(ctx, e)
	if err != nil {
		return steps.Result{}, err
	}
	changed, err := s.bind(ctx, client, binding)
	return steps.Result{Done: !changed, Note: "http://" + aws.ServiceHost + fmt.Sprintf(":%d", aws.ServicePort)}, err
}

func (s *Session) buildImage(ctx context.Context, name string, rep event.Reporter) (steps.Result, error) {
	spec := find(s.stack.Spec.Images, func(i stack.Image) bool { return i.Name == name })
	build := image.AppBuild{
		Stack: s.name, Name: name, Context: s.stack.Path(spec.Context), Dockerfile: spec.Dockerfile,
		Target: spec.Target, Args: spec.Args, Labels: s.labels("image/" + name),
		CPUShares: s.shares(buildShares),
	}
	if spec.Base != nil {
		build.BaseArg, build.BaseRef = spec.Base.Arg, s.ref(spec.Base.Image)
	}
	built, err := image.Build(ctx, s.images, build, rep)
	if err != nil {
		return steps.Result{}, err
	}
	if err := s.setRef("image/"+name, built.Ref); err != nil {
		return steps.Result{}, err
	}
	return steps.Result{Done: !built.Changed, Note: built.Ref}, nil
}

func (s *Session) loadImage(ctx context.Context, name string, rep event.Reporter) (steps.Result, error) {
	c, err := s.cluster()
	if err != nil {
		return steps.Result{}, err
	}
	loaded, err := c.Load(ctx, s.ref("image/"+name), rep)
	return steps.Result{Done: !loaded}, err
}

// initModule makes a module ready to be applied, while its emulator may still
// be starting. One that is applied already needs no look.
func (s *Session) initModule(ctx context.Context, name string, rep event.Reporter) (steps.Result, error) {
	m, err := s.module(ctx, find(s.stack.Spec.Terraform, func(t stack.Terraform) bool { return t.Name == name }))
	if err != nil {
		return steps.Result{}, err
	}
	st, err := m.Check(ctx)
	if err != nil || st.Unchanged {
		return steps.Result{Done: st.Unchanged}, err
	}
	return steps.Result{}, m.Prepare(ctx, rep)
}

// checkModule says whether a module has to be applied: it was changed, or what
// it has created is there no more.
func (s *Session) checkModule(ctx context.Context, name string, m *terraform.Module) (terraform.Status, error) {
	st, err := m.Check(ctx)
	if err != nil || !st.Unchanged || !s.stack.Spec.AWS.On() {
		return st, err
	}
	t, err := s.moduleSpec(name)
	if err != nil {
		return st, err
	}
	seen, err := (&liveModule{s: s, spec: t}).Look(ctx)
	if err != nil {
		return st, fmt.Errorf("look for the resources of %s: %w", m.Component(), err)
	}
	for _, r := range seen.Resources {
		if r.State == event.ResourceMissing {
			return terraform.Status{Reason: r.Address + " is missing in the emulator"}, nil
		}
	}
	return st, nil
}

func (s *Session) applyModule(ctx context.Context, name string, rep event.Reporter) (steps.Result, error) {
	m, err := s.module(ctx, find(s.stack.Spec.Terraform, func(t stack.Terraform) bool { return t.Name == name }))
	if err != nil {
		return steps.Result{}, err
	}
	st, err := s.checkModule(ctx, name, m)
	if err != nil {
		return steps.Result{}, err
	}
	if st.Unchanged {
		return steps.Result{Done: true}, nil
	}
	rep.Log("sandbox", st.Reason)
	res, err := m.Apply(ctx, rep)
	return steps.Result{Done: res.Unchanged, Note: res.String()}, err
}

// pruneReleases removes the sandbox's releases that its stack has no more.
func (s *Session) pruneReleases(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	owned, err := s.releases.Owned(ctx)
	if err != nil {
		return steps.Result{}, err
	}
	var gone []string
	for _, spec := range owned {
		if slices.ContainsFunc(s.stack.Spec.Releases, func(r stack.Release) bool { return r.Name == spec.Name && r.Namespace == spec.Namespace }) {
			continue
		}
		rep.Progress(event.Progress{Text: "removing release " + spec.Name})
		if err := s.releases.Release(spec).Uninstall(ctx, rep); err != nil {
			return steps.Result{}, err
		}
		gone = append(gone, spec.Name)
	}
	if len(gone) == 0 {
		return steps.Result{Done: true}, nil
	}
	return steps.Result{Note: "removed " + strings.Join(gone, ", ")}, nil
}

func (s *Session) installRelease(ctx context.Context, name string, rep event.Reporter) (steps.Result, error) {
	r := find(s.stack.Spec.Releases, func(r stack.Release) bool { return r.Name == name })
	spec, err := s.releaseSpec(ctx, r)
	if err != nil {
		return steps.Result{}, err
	}
	res, err := s.releases.Release(spec).Apply(ctx, rep)
	return steps.Result{Done: !res.Changed, Note: res.Note}, err
}

// releaseSpec joins the release's values with what other parts provide.
func (s *Session) releaseSpec(ctx context.Context, r stack.Release) (release.Spec, error) {
	values, err := s.stack.ReleaseValues(r, stack.Sources{
		Output: func(module, output string) (any, error) { return s.output(ctx, module, output) },
		Image:  func(name string) (stack.ImageRef, error) { return imageRef(name, s.ref("image/"+name)) },
	})
	return release.Spec{
		Name: r.Name, Namespace: r.Namespace, Chart: s.stack.Path(r.Chart), Values: values, Timeout: time.Duration(r.Timeout),
	}, err
}

// imageRef splits the reference of the stack's image, as Build gives it: with a
// tag. A colon before the last slash belongs to a registry's port.
func imageRef(name, ref string) (stack.ImageRef, error) {
	i := strings.LastIndex(ref, ":")
	if i <= strings.LastIndex(ref, "/") {
		return stack.ImageRef{}, fmt.Errorf("image %s has no reference with a tag yet: %q", name, ref)
	}
	return stack.ImageRef{Repository: ref[:i], Tag: ref[i+1:]}, nil
}

// output is an output of an applied Terraform module.
func (s *Session) output(ctx context.Context, module, output string) (any, error) {
	m, err := s.module(ctx, find(s.stack.Spec.Terraform, func(t stack.Terraform) bool { return t.Name == module }))
	if err != nil {
		return nil, err
	}
	outputs, err := m.Outputs(ctx)
	if err != nil {
		return nil, err
	}
	out, ok := outputs[output]
	if !ok {
		return nil, fmt.Errorf("module %s has no output %q", module, output)
	}
	return out.Value, nil
}

// find returns the element that match accepts. The stack is valid, so there is
// one: references were checked when it was read.
func find[T any](list []T, match func(T) bool) T {
	return list[slices.IndexFunc(list, match)]
}

func (s *Session) ensurePrometheus(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	p, err := s.prometheus()
	if err != nil {
		return steps.Result{}, err
	}
	return served(ctx, p, rep)
}

func (s *Session) ensureAlertmanager(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	a, err := s.alertmanager()
	if err != nil {
		return steps.Result{}, err
	}
	return served(ctx, a, rep)
}

func (s *Session) ensureGrafana(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	if s.ref(plan.GrafanaImage) == "" {
		return steps.Result{}, &steps.Off{Reason: s.ref(offFact + plan.GrafanaImage)}
	}
	g, err := s.grafana()
	if err != nil {
		return steps.Result{}, err
	}
	return served(ctx, g, rep)
}

// service is what the containers of the observability stack have in common.
type service interface {
	Ensure(ctx context.Context, rep event.Reporter) (bool, error)
	URL(ctx context.Context) (string, error)
}

func served(ctx context.Context, svc service, rep event.Reporter) (steps.Result, error) {
	changed, err := svc.Ensure(ctx, rep)
	if err != nil {
		return steps.Result{}, err
	}
	url, err := svc.URL(ctx)
	return steps.Result{Done: !changed, Note: url}, err
}

// ensureDiscovery lets Prometheus see into the cluster.
func (s *Session) ensureDiscovery(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	c, err := s.cluster()
	if err != nil {
		return steps.Result{}, err
	}
	access, err := c.PrometheusAccess(ctx)
	if err != nil {
		return steps.Result{}, err
	}
	p, err := s.prometheus()
	if err != nil {
		return steps.Result{}, err
	}
	changed, err := p.SetCluster(ctx, observe.Access{Server: access.Server, CA: access.CA, Token: access.Token}, rep)
	return steps.Result{Done: !changed}, err
}
