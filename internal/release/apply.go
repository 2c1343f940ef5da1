package release

import (
	"context"
	"errors"
	"fmt"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// The labels on Helm's own record of a release.
const (
	labelName        = "sandbox.name"
	labelComponent   = "sandbox.component"
	labelRun         = "sandbox.run"
	labelFingerprint = "sandbox.fingerprint"
)

// maxHistory is how many revisions of a release Helm keeps.
const maxHistory = 5

// Check says whether the release is deployed as the Spec wants it, and ready.
// A cluster that cannot be asked is an error.
func (r *Release) Check(ctx context.Context) (done bool, note string, err error) {
	want, err := load(r.spec)
	if err != nil {
		return false, "", err
	}
	c, err := r.m.connect()
	if err != nil {
		return false, "", err
	}
	hc, err := c.helm(r.spec.Namespace, event.Discard)
	if err != nil {
		return false, "", err
	}
	last, err := lastRevision(hc, r.spec.Name)
	if err != nil || !r.matches(last, want) {
		return false, "", err
	}
	objects, err := c.inspect(ctx, r.spec, last.Manifest)
	if err != nil {
		return false, "", err
	}
	if len(blocking(objects)) > 0 {
		return false, "", nil
	}
	return true, fmt.Sprintf("revision %d, %s", last.Version, readyText(objects)), nil
}

// Apply installs or upgrades the release where it differs from the Spec, and
// waits until all its objects are ready. A release that an earlier run left
// half done is put in order first. Errors about the release itself are
// *fault.Error; the one about a release that does not become ready names what
// blocks it and holds the last log lines of a crashed container.
func (r *Release) Apply(ctx context.Context, rep event.Reporter) (note string, err error) {
	want, err := load(r.spec)
	if err != nil {
		return "", err
	}
	c, err := r.m.connect()
	if err != nil {
		return "", err
	}
	hc, err := c.helm(r.spec.Namespace, rep)
	if err != nil {
		return "", err
	}
	last, err := lastRevision(hc, r.spec.Name)
	if err != nil {
		return "", err
	}
	if last, err = r.repair(hc, last, rep); err != nil {
		return "", err
	}
	begin := time.Now()
	if r.matches(last, want) {
		rep.Log("sandbox", fmt.Sprintf("revision %d is deployed already; waiting for it to be ready", last.Version))
	} else if last, err = r.deploy(ctx, c, hc, last, want, rep); err != nil {
		return "", err
	}
	if err := c.restartStuck(ctx, r.spec, last.Manifest, begin, rep); err != nil {
		return "", err
	}
	objects, err := c.waitReady(ctx, r.spec, last.Manifest, rep)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("revision %d, %s", last.Version, readyText(objects)), nil
}

// matches says whether rel is deployed and made from want.
func (r *Release) matches(rel *release.Release, want *desired) bool {
	return rel != nil && rel.Info.Status == release.StatusDeployed &&
		r.own(rel) && rel.Labels[labelFingerprint] == want.fingerprint
}

// own says whether the release was made for this sandbox.
func (r *Release) own(rel *release.Release) bool {
	return rel.Labels[labelName] == r.m.cfg.Sandbox
}

// deploy installs the release, or upgrades the one that is there.
func (r *Release) deploy(ctx context.Context, c *cluster, hc *action.Configuration, last *release.Release, want *desired, rep event.Reporter) (*release.Release, error) {
	if err := c.ensureNamespace(ctx, r.spec.Namespace, r.m.cfg); err != nil {
		return nil, fmt.Errorf("create namespace %q: %w", r.spec.Namespace, err)
	}
	verb := "installing"
	if last != nil {
		verb = "upgrading"
	}
	stop := c.reportHooks(ctx, r.spec, verb, rep)
	rel, err := r.runHelm(ctx, hc, last, want)
	stop()
	if err == nil {
		return rel, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s release %q: %w", verb, r.spec.Name, err)
	}
	f := fault.Wrap(fault.Failed, err, "sandbox logs "+r.spec.Component(), "%s release %q failed", verb, r.spec.Name)
	if rel != nil {
		f.Log = c.hookLogs(ctx, r.spec.Namespace, rel.Hooks)
	}
	return nil, f
}

func (r *Release) runHelm(ctx context.Context, hc *action.Configuration, last *release.Release, want *desired) (*release.Release, error) {
	labels := map[string]string{
		labelName:        r.m.cfg.Sandbox,
		labelComponent:   labelValue(r.spec.Component()),
		labelRun:         r.m.cfg.Run,
		labelFingerprint: want.fingerprint,
	}
	// Waiting is ours, so Wait stays off; Helm waits for hooks all the same.
	if last == nil {
		install := action.NewInstall(hc)
		install.ReleaseName, install.Namespace = r.spec.Name, r.spec.Namespace
		install.Timeout, install.Labels = r.spec.timeout(), labels
		return install.RunWithContext(ctx, want.chart, want.values)
	}
	upgrade := action.NewUpgrade(hc)
	upgrade.Namespace, upgrade.MaxHistory = r.spec.Namespace, maxHistory
	upgrade.Timeout, upgrade.Labels = r.spec.timeout(), labels
	upgrade.ResetValues = true // what the stack no longer says is no longer so
	return upgrade.RunWithContext(ctx, r.spec.Name, want.chart, want.values)
}

// repair puts a release in order that a killed process left behind, and
// returns the revision to go on from, nil for none. A release of somebody
// else is left alone.
func (r *Release) repair(hc *action.Configuration, last *release.Release, rep event.Reporter) (*release.Release, error) {
	if last == nil {
		return nil, nil
	}
	if !r.own(last) {
		return nil, fault.New(fault.Conflict,
			fmt.Sprintf("release %q in namespace %q is not this sandbox's", r.spec.Name, r.spec.Namespace),
			"it was installed by somebody else and is left as it is",
			fmt.Sprintf("helm uninstall %s -n %s, or give the release another name in the stack", r.spec.Name, r.spec.Namespace))
	}
	status := last.Info.Status
	if !status.IsPending() && status != release.StatusUninstalling && status != release.StatusUninstalled {
		return last, nil
	}
	deployed, err := hc.Releases.Deployed(r.spec.Name)
	switch {
	case status.IsPending() && err == nil:
		rep.Log("sandbox", fmt.Sprintf("revision %d was left %s by an interrupted run: rolling back to revision %d", last.Version, status, deployed.Version))
		return r.rollback(hc, deployed.Version)
	case err != nil && !errors.Is(err, driver.ErrReleaseNotFound) && !errors.Is(err, driver.ErrNoDeployedReleases):
		return nil, fmt.Errorf("read the history of release %q: %w", r.spec.Name, err)
	}
	rep.Log("sandbox", fmt.Sprintf("revision %d was left %s by an interrupted run: removing it to install anew", last.Version, status))
	if err := r.remove(hc); err != nil {
		return nil, err
	}
	return nil, nil
}

func (r *Release) rollback(hc *action.Configuration, version int) (*release.Release, error) {
	back := action.NewRollback(hc)
	back.Version, back.Timeout, back.MaxHistory = version, r.spec.timeout(), maxHistory
	back.DisableHooks = true // the upgrade that follows runs them
	if err := back.Run(r.spec.Name); err != nil {
		return nil, fault.Wrap(fault.Failed, err, fmt.Sprintf("helm uninstall %s -n %s, then sandbox up", r.spec.Name, r.spec.Namespace),
			"release %q could not be rolled back to revision %d", r.spec.Name, version)
	}
	return lastRevision(hc, r.spec.Name)
}

func (r *Release) remove(hc *action.Configuration) error {
	un := action.NewUninstall(hc)
	un.IgnoreNotFound, un.DisableHooks = true, true
	un.Timeout = r.spec.timeout()
	if _, err := un.Run(r.spec.Name); err != nil {
		return fault.Wrap(fault.Failed, err, "", "release %q could not be removed", r.spec.Name)
	}
	return nil
}

// Uninstall removes the release with its hooks; one that is not there is no
// error, one that is somebody else's is.
func (r *Release) Uninstall(_ context.Context, rep event.Reporter) error {
	c, err := r.m.connect()
	if err != nil {
		return err
	}
	hc, err := c.helm(r.spec.Namespace, rep)
	if err != nil {
		return err
	}
	last, err := lastRevision(hc, r.spec.Name)
	if err != nil || last == nil {
		return err
	}
	if !r.own(last) {
		return fault.New(fault.Conflict,
			fmt.Sprintf("release %q in namespace %q is not this sandbox's", r.spec.Name, r.spec.Namespace),
			"it was installed by somebody else and is left as it is", "")
	}
	un := action.NewUninstall(hc)
	un.IgnoreNotFound = true
	un.Timeout = r.spec.timeout()
	if _, err := un.Run(r.spec.Name); err != nil {
		return fault.Wrap(fault.Failed, err, "", "release %q could not be removed", r.spec.Name)
	}
	return nil
}

// lastRevision returns the newest revision, whatever its status, or nil.
func lastRevision(hc *action.Configuration, name string) (*release.Release, error) {
	rel, err := hc.Releases.Last(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of release %q: %w", name, err)
	}
	return rel, nil
}

// ensureNamespace creates the namespace, labelled, unless it is there.
func (c *cluster) ensureNamespace(ctx context.Context, name string, cfg Config) error {
	_, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{labelName: cfg.Sandbox, labelRun: cfg.Run},
	}}, metav1.CreateOptions{FieldManager: "sandbox"})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
