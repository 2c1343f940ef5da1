package stack

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/rulefmt"
)

// check reports everything that the schema can't: references between the parts
// of a stack, and what the files that it names contain.
func (s *Stack) check(r *report) {
	s.checkSupport(r)
	s.checkCluster(r)
	s.checkPorts(r)
	s.checkNames(r)
	s.checkDependencies(r)
	groups := s.checkObservability(r)
	receivers := s.checkAlertmanager(r)
	s.checkRuleTests(r)
	s.checkImages(r)
	outputs := s.checkTerraform(r)
	s.checkReleases(r, outputs)
	s.checkDrills(groups, receivers, r)
}

// checkSupport refuses what the format has but this version can't do yet.
func (s *Stack) checkSupport(r *report) {
	notYet := func(ptr, what, try string) {
		r.add(s.positions.value(ptr), what+" is not supported yet", "the format has it, this version of sandbox can't do it", try)
	}
	if s.Spec.AWS.Emulator == EmulatorMiniStack {
		notYet("/spec/aws/emulator", "the emulator ministack", "use localstack")
	}
	if s.Spec.AWS.Endpoint != "" {
		notYet("/spec/aws/endpoint", "an emulator that already runs", "write emulator: localstack")
	}
	if s.Spec.Cluster.Context != "" {
		notYet("/spec/cluster/context", "an existing cluster", "remove context, for a kind cluster")
	}
	if s.Spec.Observability.Tracing {
		notYet("/spec/observability/tracing", "tracing", "write tracing: false")
	}
}

func (s *Stack) checkCluster(r *report) {
	if s.Spec.Cluster.Context != "" && s.Spec.Cluster.Nodes != 0 {
		r.add(s.positions.key("/spec/cluster/nodes"), "cluster has both nodes and context", "nodes are for a new kind cluster, context names an existing one", "remove one of the two")
	}
	if s.Spec.AWS.Endpoint != "" && s.Spec.AWS.Emulator != "" {
		r.add(s.positions.key("/spec/aws/emulator"), "aws has both emulator and endpoint", "an endpoint stands in for an emulator", "remove one of the two")
	}
	if len(s.Spec.Terraform) > 0 && !s.Spec.AWS.On() {
		r.add(s.positions.key("/spec/terraform"), "terraform modules without an AWS emulator", "modules are applied to the emulator", "add aws: {emulator: localstack}")
	}
}

// checkPorts refuses a port that two parts of the stack would publish.
func (s *Stack) checkPorts(r *report) {
	type published struct {
		key  string
		port int
		on   bool
	}
	seen := map[int]string{}
	for _, p := range []published{
		{"aws", s.Spec.Ports.AWS, s.Spec.AWS.On() && s.Spec.AWS.Endpoint == ""},
		{"prometheus", s.Spec.Ports.Prometheus, s.Spec.Observability.On()},
		{"alertmanager", s.Spec.Ports.Alertmanager, s.Spec.Observability.On()},
		{"grafana", s.Spec.Ports.Grafana, s.Spec.Observability.On()},
	} {
		if !p.on {
			continue
		}
		other, taken := seen[p.port]
		if !taken {
			seen[p.port] = p.key
			continue
		}
		at, where := s.positions.value(pointer("spec", "ports", p.key)), s.portPlace(other)
		if !s.positions.has(pointer("spec", "ports", p.key)) { // a default: blame the one that was written
			at, where = s.positions.value(pointer("spec", "ports", other)), s.portPlace(p.key)
		}
		r.add(at, fmt.Sprintf("port %d is used twice, by %s and %s", p.port, other, p.key), "the other one is "+where, "choose another port")
	}
}

func (s *Stack) portPlace(key string) string {
	ptr := pointer("spec", "ports", key)
	if !s.positions.has(ptr) {
		return "the default of " + key
	}
	return fmt.Sprintf("in line %d", s.positions.value(ptr).line)
}

// checkNames refuses two components of the same kind and name.
func (s *Stack) checkNames(r *report) {
	first := map[string]position{}
	for _, c := range s.Components() {
		at := s.positions.value(c.pointer + "/name")
		if before, taken := first[c.ID]; taken {
			r.add(at, fmt.Sprintf("%s is defined twice", c.ID), fmt.Sprintf("it is already defined in line %d", before.line), "choose another name")
			continue
		}
		first[c.ID] = at
	}
}

// checkDependencies checks dependsOn, and that nothing depends on itself.
func (s *Stack) checkDependencies(r *report) {
	components := s.Components()
	ids := make([]string, len(components))
	for i, c := range components {
		ids[i] = c.ID
	}
	unknown := false
	for _, c := range components {
		for i, id := range s.dependsOn(c) {
			if slices.Contains(ids, id) {
				continue
			}
			unknown = true
			try := suggest(id, ids)
			for _, known := range ids {
				if strings.HasSuffix(known, "/"+id) {
					try = fmt.Sprintf("did you mean %q?", known)
				}
			}
			r.add(s.positions.value(c.pointer+pointer("dependsOn", i)), fmt.Sprintf("unknown component %s", quote(id)), "a dependency is image/NAME, terraform/NAME or release/NAME of this stack", try)
		}
	}
	if unknown {
		return
	}
	if cycle := findCycle(components); cycle != nil {
		i := slices.Index(ids, cycle[0])
		r.add(s.positions.value(components[i].pointer), "dependency cycle: "+formatCycle(cycle), "a component can't wait for itself", "remove one of these dependencies")
	}
}

// dependsOn returns the dependencies of a component as the file lists them.
func (s *Stack) dependsOn(c Component) []string {
	kind, name, _ := strings.Cut(c.ID, "/")
	switch kind {
	case KindTerraform:
		for i, m := range s.Spec.Terraform {
			if m.Name == name && c.pointer == pointer("spec", "terraform", i) {
				return m.DependsOn
			}
		}
	case KindRelease:
		for i, rel := range s.Spec.Releases {
			if rel.Name == name && c.pointer == pointer("spec", "releases", i) {
				return rel.DependsOn
			}
		}
	}
	return nil
}

// checkObservability checks rules and dashboards. It returns the rules of all
// files, or nil where one of them can't be used.
func (s *Stack) checkObservability(r *report) *rulefmt.RuleGroups {
	before := len(r.problems)
	all := &rulefmt.RuleGroups{}
	for i, rel := range s.Spec.Observability.Rules {
		if path, ok := s.resolve(pointer("spec", "observability", "rules", i), rel, wantFile, r); ok {
			if groups := checkRules(s.display(rel), path, r); groups != nil {
				all.Groups = append(all.Groups, groups.Groups...)
			}
		}
	}
	if len(r.problems) > before {
		all = nil
	}
	for i, rel := range s.Spec.Observability.Dashboards {
		ptr := pointer("spec", "observability", "dashboards", i)
		if path, ok := s.resolve(ptr, rel, wantAny, r); ok {
			s.checkDashboards(ptr, rel, path, r)
		}
	}
	return all
}

func (s *Stack) checkImages(r *report) {
	for i, image := range s.Spec.Images {
		ptr := pointer("spec", "images", i)
		if _, ok := s.resolve(ptr+"/context", image.Context, wantDir, r); !ok {
			continue
		}
		at := ptr + "/dockerfile"
		if !s.positions.has(at) {
			at = ptr + "/context"
		}
		path, ok := s.resolve(at, joinSlash(image.Context, image.Dockerfile), wantFile, r)
		if !ok {
			continue
		}
		s.checkDockerfile(ptr, image, path, r)
	}
}

// checkTerraform checks the modules and returns the outputs of each by name;
// a module that can't be read is not in the result.
func (s *Stack) checkTerraform(r *report) map[string][]string {
	outputs := map[string][]string{}
	for i, m := range s.Spec.Terraform {
		ptr := pointer("spec", "terraform", i)
		dir, ok := s.resolve(ptr+"/dir", m.Dir, wantDir, r)
		if !ok || !s.checkTree(ptr+"/dir", m.Dir, dir, r) {
			continue
		}
		module, ok := s.readModule(ptr+"/dir", m.Dir, dir, r)
		if !ok {
			continue
		}
		outputs[m.Name] = module.outputs
		for _, name := range slices.Sorted(maps.Keys(m.Vars)) {
			if _, declared := module.variables[name]; !declared {
				r.add(s.positions.key(ptr+pointer("vars", name)), fmt.Sprintf("the module has no variable %s", quote(name)), "vars sets input variables of the module", suggest(name, slices.Sorted(maps.Keys(module.variables))))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(module.variables)) {
			if _, given := m.Vars[name]; !given && module.variables[name] && !module.hasVarFiles {
				r.add(s.positions.value(ptr), fmt.Sprintf("the variable %s of module %s has no value", quote(name), m.Name), "the module declares it without a default", fmt.Sprintf("add vars: {%s: …}", name))
			}
		}
	}
	return outputs
}

func (s *Stack) checkReleases(r *report, outputs map[string][]string) {
	for i, rel := range s.Spec.Releases {
		ptr := pointer("spec", "releases", i)
		if path, ok := s.resolve(ptr+"/chart", rel.Chart, wantAny, r); ok {
			s.checkChart(ptr+"/chart", rel.Chart, path, r)
		}
		for j, file := range rel.ValuesFiles {
			if path, ok := s.resolve(ptr+pointer("valuesFiles", j), file, wantFile, r); ok {
				s.checkValuesFile(file, path, r)
			}
		}
		s.checkValuesFrom(ptr, rel, outputs, r)
	}
}

func (s *Stack) checkValuesFrom(ptr string, rel Release, outputs map[string][]string, r *report) {
	modules := make([]string, len(s.Spec.Terraform))
	for i, m := range s.Spec.Terraform {
		modules[i] = m.Name
	}
	images := make([]string, len(s.Spec.Images))
	for i, image := range s.Spec.Images {
		images[i] = image.Name
	}
	first := map[string]position{}
	for j, from := range rel.ValuesFrom {
		ptr := ptr + pointer("valuesFrom", j)
		bad := func(key, what, rule, try string) { r.add(s.positions.value(ptr+"/"+key), what, rule, try) }
		switch {
		case from.Terraform != "" && from.Image != "":
			bad("image", "a value comes from terraform and from an image", "it comes from one of the two", "write two entries")
		case from.Terraform != "":
			known, readable := outputs[from.Terraform]
			switch {
			case !slices.Contains(modules, from.Terraform):
				bad("terraform", fmt.Sprintf("unknown terraform module %s", quote(from.Terraform)), "it has to be a name under spec.terraform", suggest(from.Terraform, modules))
			case from.Output == "":
				bad("terraform", "a value from terraform has no output", "output names an output of the module", suggest("", known))
			case readable && !slices.Contains(known, from.Output):
				bad("output", fmt.Sprintf("the module %s has no output %s", from.Terraform, quote(from.Output)), "the outputs are those that the module declares", suggest(from.Output, known))
			}
			if from.Field != "" {
				bad("field", "field is for images", "an output is taken as it is", "remove field")
			}
		case from.Image != "":
			if !slices.Contains(images, from.Image) {
				bad("image", fmt.Sprintf("unknown image %s", quote(from.Image)), "it has to be a name under spec.images", suggest(from.Image, images))
			}
			if from.Output != "" {
				bad("output", "output is for terraform", "an image has a ref, a repository and a tag", "write field, or remove output")
			}
		default:
			bad("", "a value comes from nowhere", "a value comes from terraform or from an image", "add terraform and output, or image")
		}
		at := s.positions.value(ptr + "/path")
		if before, taken := first[from.Path]; taken {
			r.add(at, fmt.Sprintf("the path %s is set twice", from.Path), fmt.Sprintf("it is already set in line %d", before.line), "choose another path")
			continue
		}
		first[from.Path] = at
	}
}
