package release

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

// Result is what Apply did.
type Result struct {
	// Changed says that the release was not as it should be before.
	Changed bool
	// Note is one short line: "revision 2, 3 of 3 pods ready".
	Note string
}

// Check says, changing nothing, whether the release is deployed as the Spec
// wants it, and ready. A cluster that cannot be asked is an error.
func (r *Release) Check(ctx context.Context) (done bool, note string, err error) {
	a, err := r.begin(event.Discard)
	if err != nil {
		return false, "", err
	}
	return r.settled(ctx, a)
}

// Apply installs or upgrades the release where it differs from the Spec, and
// waits until all its objects are ready. A release that an earlier run left
// half done is put in order first. Errors about the release itself are
// *fault.Error; the one about a release that does not become ready names what
// blocks it and holds the last log lines of a crashed container.
func (r *Release) Apply(ctx context.Context, rep event.Reporter) (Result, error) {
	a, err := r.begin(rep)
	if err != nil {
		return Result{}, err
	}
	if done, note, err := r.settled(ctx, a); done || err != nil {
		return Result{Note: note}, err
	}
	rel, err := r.repair(a.config, a.last, rep)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	changed, err := a.changed(ctx, r.spec, rel)
	if err != nil {
		return Result{}, err
	}
	switch {
	case !r.matches(rel, a.want):
	case changed != "":
		rep.Log("sandbox", changed+" was changed since revision "+strconv.Itoa(rel.Version)+" was deployed: deploying it again")
	default:
		rep.Log("sandbox", fmt.Sprintf("revision %d is deployed already, but not ready", rel.Version))
	}
	if !r.matches(rel, a.want) || changed != "" {
		if rel, err = r.deploy(ctx, a, rel, rep); err != nil {
			return Result{}, err
		}
	}
	if err := a.restartStuck(ctx, r.spec, rel.Manifest, began, rep); err != nil {
		return Result{}, err
	}
	objects, err := a.waitReady(ctx, r.spec, rel.Manifest, rep)
	if err != nil {
		return Result{}, err
	}
	return Result{Changed: true, Note: note(rel, objects)}, nil
}

// attempt is what one look at or change of a release works with.
type attempt struct {
	*cluster
	config *action.Configuration
	want   *desired
	// last is the newest revision, whatever its status, or nil.
	last *release.Release
}

func (r *Release) begin(rep event.Reporter) (*attempt, error) {
	want, err := load(r.spec)
	if err != nil {
		return nil, err
	}
	c, err := r.m.connect()
	if err != nil {
		return nil, err
	}
	hc, err := c.helm(r.spec.Namespace, rep)
	if err != nil {
		return nil, err
	}
	last, err := lastRevision(hc, r.spec.Name)
	if err != nil {
		return nil, err
	}
	return &attempt{cluster: c, config: hc, want: want, last: last}, nil
}

// settled says whether the release needs nothing.
func (r *Release) settled(ctx context.Context, a *attempt) (bool, string, error) {
	if !r.matches(a.last, a.want) {
		return false, "", nil
	}
	objects, err := a.inspect(ctx, r.spec, a.last.Manifest)
	if err != nil || len(blocking(objects)) > 0 {
		return false, "", err
	}
	return true, note(a.last, objects), nil
}

func note(rel *release.Release, objects []object) string {
	return fmt.Sprintf("revision %d, %s", rel.Version, readyText(objects))
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
func (r *Release) deploy(ctx context.Context, a *attempt, last *release.Release, rep event.Reporter) (*release.Release, error) {
	if err := a.ensureNamespace(ctx, r.spec.Namespace, r.m.cfg); err != nil {
		return nil, fmt.Errorf("create namespace %q: %w", r.spec.Namespace, err)
	}
	verb := "installing"
	if last != nil {
		verb = "upgrading"
	}
	stop := a.reportHooks(ctx, r.spec, verb, rep)
	rel, err := r.runHelm(ctx, a.config, last, a.want)
	stop()
	if err == nil {
		return rel, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s release %q: %w", verb, r.spec.Name, err)
	}
	f := fault.Wrap(fault.Failed, err, "sandbox logs "+r.spec.Component(), "%s release %q failed", verb, r.spec.Name)
	if rel != nil {
		f.Log = a.hookLogs(ctx, r.spec.Namespace, rel.Hooks)
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
	if status.IsPending() {
		good, err := lastGood(hc, r.spec.Name)
		if err != nil {
			return nil, err
		}
		if good != nil {
			rep.Log("sandbox", fmt.Sprintf("revision %d was left %s by an interrupted run: rolling back to revision %d", last.Version, status, good.Version))
			return r.rollback(hc, good.Version)
		}
	}
	rep.Log("sandbox", fmt.Sprintf("revision %d was left %s by an interrupted run: removing it to install anew", last.Version, status))
	return nil, r.remove(hc)
}

// lastGood returns the newest revision that was deployed, or is still counted
// as such, or nil.
func lastGood(hc *action.Configuration, name string) (*release.Release, error) {
	history, err := hc.Releases.History(name)
	if err != nil {
		return nil, fmt.Errorf("read the history of release %q: %w", name, err)
	}
	var good *release.Release
	for _, rel := range history {
		if s := rel.Info.Status; s != release.StatusDeployed && s != release.StatusSuperseded {
			continue
		}
		if good == nil || rel.Version > good.Version {
			good = rel
		}
	}
	return good, nil
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
