package stack

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sandbox-stack/sandbox/internal/rules"
)

// checkDrills checks the drills against the rules of the stack and the receivers
// of its Alertmanager. Both are nil where their files can't be read, which has
// been reported then.
func (s *Stack) checkDrills(groups *rulefmt.RuleGroups, receivers []string, r *report) {
	if len(s.Spec.Drills) == 0 {
		return
	}
	if !s.Spec.Observability.On() {
		r.add(s.positions.key("/spec/drills"), "drills without observability", "a drill follows an alert from Prometheus to its receiver", "remove the drills, or write observability: {enabled: true}")
	}
	first := map[string]position{}
	for i, d := range s.Spec.Drills {
		ptr := pointer("spec", "drills", i)
		at := s.positions.value(ptr + "/alert")
		if before, taken := first[d.Alert]; taken {
			r.add(at, fmt.Sprintf("a second drill for %s", d.Alert), fmt.Sprintf("it already has one in line %d", before.line), "remove one of the two")
		} else {
			first[d.Alert] = at
		}
		if groups != nil {
			s.checkDrilledAlert(ptr, d, groups, r)
		}
		s.checkDrillReceiver(ptr, d, receivers, r)
		s.checkInject(ptr+"/inject", d.Inject, r)
		if d.Load != nil && d.Load.Cleanup != nil {
			s.checkExec(ptr+"/load/cleanup/component", d.Load.Cleanup.Component, r)
		}
	}
}

// checkDrilledAlert checks that there is such an alert, and that it can fire in
// the time that its drill has.
func (s *Stack) checkDrilledAlert(ptr string, d Drill, groups *rulefmt.RuleGroups, r *report) {
	var known []string
	for _, g := range groups.Groups {
		for _, rule := range g.Rules {
			if rule.Alert != "" && !slices.Contains(known, rule.Alert) {
				known = append(known, rule.Alert)
			}
		}
	}
	if !slices.Contains(known, d.Alert) {
		r.add(s.positions.value(ptr+"/alert"), fmt.Sprintf("unknown alert %s", quote(d.Alert)), "it has to be an alert in a rule file of this stack", suggest(d.Alert, known))
		return
	}
	factor := cmp.Or(d.Compress, DefaultCompress)
	c, err := rules.Compress(groups, rules.Options{
		Alert: d.Alert, Factor: factor, Evaluation: DrillEvaluation,
		Scrape: func(string) time.Duration { return ScrapeInterval },
	})
	if err != nil {
		r.add(s.positions.value(ptr+"/alert"), fmt.Sprintf("the rule %s can't be compressed", d.Alert), err.Error(), "write compress: 1, or change the rule")
		return
	}
	earliest, why := soonest(c, factor)
	if time.Duration(d.Within) >= earliest {
		return
	}
	within := time.Duration(d.Within)
	what := fmt.Sprintf("within %s is too short", words(within))
	if !s.positions.has(ptr + "/within") {
		what = fmt.Sprintf("within is %s by default, which is too short", words(within))
	}
	try := fmt.Sprintf("write within: %s or more", words(earliest))
	if factor == 1 {
		try += ", or a larger compress"
	}
	r.add(s.positions.value(ptr+"/within"), what, fmt.Sprintf("%s can fire after %s at the earliest (%s)", d.Alert, words(earliest), why), try)
}

// soonest returns when the first rule of an alert can fire, and what that consists of.
func soonest(c *rules.Copy, factor int) (earliest time.Duration, why string) {
	for i, a := range c.Alerts {
		evaluation := DrillEvaluation
		if factor == 1 { // the rules themselves are watched, there is no copy
			evaluation = ScrapeInterval
		}
		takes := rules.Shortest(a.Rule, ScrapeInterval, evaluation)
		if i > 0 && takes >= earliest {
			continue
		}
		earliest = takes
		why = fmt.Sprintf("a scrape of %s, an evaluation of %s", words(ScrapeInterval), words(evaluation))
		if a.For > 0 {
			why += fmt.Sprintf(", for: %s", words(a.For))
		}
		if before := time.Duration(a.Original.For); before != a.For {
			why += fmt.Sprintf(" compressed from %s", words(before))
		}
	}
	return earliest, why
}

// words writes a duration as a stack file does: 2m, not 2m0s.
func words(d time.Duration) string { return model.Duration(d).String() }

func (s *Stack) checkDrillReceiver(ptr string, d Drill, receivers []string, r *report) {
	at := s.positions.value(ptr + "/receiver")
	switch {
	case d.Receiver == "":
	case s.Spec.Observability.Alertmanager == "":
		r.add(at, fmt.Sprintf("unknown receiver %s", quote(d.Receiver)), "the stack has no Alertmanager configuration, so that there are no receivers", "add observability: {alertmanager: FILE}, or remove receiver")
	case receivers != nil && !slices.Contains(receivers, d.Receiver):
		r.add(at, fmt.Sprintf("unknown receiver %s", quote(d.Receiver)), "it has to be a receiver in "+s.display(s.Spec.Observability.Alertmanager), suggest(d.Receiver, receivers))
	}
}

// checkInject checks that there is exactly one fault, and what it is about.
func (s *Stack) checkInject(ptr string, f Inject, r *report) {
	kinds := s.inOrder(ptr, f.Kinds())
	switch len(kinds) {
	case 0:
		r.add(s.positions.value(ptr), "the drill breaks nothing", "it injects exactly one fault", "add one of: "+strings.Join(faultKinds(), ", "))
		return
	case 1:
	default:
		r.add(s.positions.key(ptr+"/"+kinds[1]), fmt.Sprintf("the drill injects %s and %s", kinds[0], kinds[1]), "it injects exactly one fault", "remove one of them")
	}
	for kind, selector := range selectors(f) {
		at := ptr + "/" + kind + "/selector"
		if _, err := labels.Parse(selector); err != nil {
			r.add(s.positions.value(at), fmt.Sprintf("the selector %s can't be read", quote(selector)), err.Error(), "write it as kubectl takes it: app=web-app")
		}
	}
	if f.Pause != nil {
		s.checkPlatform(ptr+"/pause/component", f.Pause.Component, r)
	}
	if f.Stop != nil {
		s.checkPlatform(ptr+"/stop/component", f.Stop.Component, r)
	}
	if c := f.Cut; c != nil {
		s.checkOneOf(ptr+"/cut", "selector", c.Component != "", c.Selector != "", c.Namespace != "", r)
		if c.Component != "" {
			s.checkPlatform(ptr+"/cut/component", c.Component, r)
		}
	}
	if d := f.Delay; d != nil {
		s.checkLed(ptr+"/delay", d.Component, d.Service, d.Namespace, r)
		if d.Latency <= 0 {
			r.add(s.positions.value(ptr+"/delay/latency"), "the latency is 0s", "a delay holds answers back", "write a longer one: 2s")
		}
	}
	if h := f.HTTP; h != nil {
		s.checkLed(ptr+"/http", h.Component, h.Service, h.Namespace, r)
	}
	if t := f.Terraform; t != nil {
		s.checkTampered(ptr+"/terraform", *t, r)
	}
	if e := f.Exec; e != nil {
		s.checkExec(ptr+"/exec/component", e.Component, r)
	}
}

// inOrder sorts keys as the file has them.
func (s *Stack) inOrder(ptr string, keys []string) []string {
	slices.SortStableFunc(keys, func(a, b string) int {
		x, y := s.positions.key(ptr+"/"+a), s.positions.key(ptr+"/"+b)
		return cmp.Or(cmp.Compare(x.line, y.line), cmp.Compare(x.col, y.col))
	})
	return keys
}

// faultKinds are the kinds of faults that there are.
func faultKinds() []string {
	var all []string
	for f := range reflect.TypeFor[Inject]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, name)
	}
	return all
}

// selectors are the selectors of a fault, by its kind.
func selectors(f Inject) map[string]string {
	all := map[string]string{}
	if f.Crash != nil {
		all["crash"] = f.Crash.Selector
	}
	if f.Kill != nil {
		all["kill"] = f.Kill.Selector
	}
	if f.Memory != nil {
		all["memory"] = f.Memory.Selector
	}
	if f.CPU != nil {
		all["cpu"] = f.CPU.Selector
	}
	if f.Cut != nil {
		all["cut"] = f.Cut.Selector
	}
	return all
}

// checkOneOf checks that a fault names a component or what else it may be about,
// under the key other, and a namespace only for that.
func (s *Stack) checkOneOf(ptr, other string, component, others, namespace bool, r *report) {
	rule := fmt.Sprintf("exactly one of component and %s says what it is about", other)
	switch {
	case component && others:
		second := s.inOrder(ptr, []string{"component", other})[1]
		r.add(s.positions.key(ptr+"/"+second), fmt.Sprintf("the fault has both component and %s", other), rule, "remove one of the two")
	case !component && !others:
		r.add(s.positions.value(ptr), fmt.Sprintf("the fault has neither component nor %s", other), rule, fmt.Sprintf("add component or %s", other))
	case component && namespace:
		r.add(s.positions.key(ptr+"/namespace"), "the fault has component and namespace", "a component is in no namespace", "remove namespace")
	}
}

// checkLed checks a fault that leads requests through a proxy.
func (s *Stack) checkLed(ptr, component, service, namespace string, r *report) {
	s.checkOneOf(ptr, "service", component != "", service != "", namespace != "", r)
	if component != "" && !s.Spec.AWS.On() {
		r.add(s.positions.value(ptr+"/component"), fmt.Sprintf("unknown component %s", quote(component)), "the stack has no emulator", "add aws: {emulator: localstack}, or name a service")
	}
}

// platform returns the components that the engine runs containers of.
func (s *Stack) platform() []string {
	all := []string{"cluster"}
	if s.Spec.AWS.On() {
		all = append(all, "aws")
	}
	if s.Spec.Observability.On() {
		all = append(all, "observe/alertmanager", "observe/exporter", "observe/grafana", "observe/prometheus")
	}
	return all
}

func (s *Stack) checkPlatform(ptr, component string, r *report) {
	if known := s.platform(); !slices.Contains(known, component) {
		r.add(s.positions.value(ptr), fmt.Sprintf("unknown component %s", quote(component)), "it has to be a platform component of this stack", suggest(component, known))
	}
}

// checkExec checks a component that a command is to run in, or a part of one.
func (s *Stack) checkExec(ptr, component string, r *report) {
	known := s.platform()
	for _, release := range s.Spec.Releases { // modules and images run nothing
		known = append(known, KindRelease+"/"+release.Name)
	}
	if !slices.ContainsFunc(known, func(id string) bool { return component == id || strings.HasPrefix(component, id+"/") }) {
		r.add(s.positions.value(ptr), fmt.Sprintf("no component %s to run a command in", quote(component)), "it has to be a platform component or a release of this stack, or a part of one such as release/NAME/deployment/NAME", suggest(component, known))
	}
}

func (s *Stack) checkTampered(ptr string, t TerraformFault, r *report) {
	known := make([]string, len(s.Spec.Terraform))
	for i, m := range s.Spec.Terraform {
		known[i] = m.Name
	}
	switch {
	case t.Module == "" && len(known) == 0:
		r.add(s.positions.value(ptr), "there is no terraform module to tamper with", "the resource has to be one of a module of this stack", "add a module under spec.terraform, or inject another fault")
	case t.Module == "":
		r.add(s.positions.value(ptr), "the fault names no terraform module", "the stack has several", "add module: "+strings.Join(known, ", or module: "))
	case !slices.Contains(known, t.Module):
		r.add(s.positions.value(ptr+"/module"), fmt.Sprintf("unknown terraform module %s", quote(t.Module)), "it has to be a name under spec.terraform", suggest(t.Module, known))
	}
}
