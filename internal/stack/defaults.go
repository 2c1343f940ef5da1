package stack

import "time"

// The defaults of a stack file.
const (
	DefaultNamespace  = "default"
	DefaultTimeout    = 5 * time.Minute
	DefaultDockerfile = "Dockerfile"
	DefaultBaseArg    = "BASE_IMAGE"
	DefaultRegion     = "us-east-1"
	DefaultTool       = "auto"
	DefaultWithin     = 2 * time.Minute // of a drill, and until it has to be resolved
	DefaultCompress   = 20              // what a drill divides the durations of rules by

	DefaultPortAWS          = 4566
	DefaultPortPrometheus   = 9090
	DefaultPortAlertmanager = 9093
	DefaultPortGrafana      = 3000
)

// How often targets are scraped and rules evaluated, and how often the rules of a
// drill's copy are: more often, since somebody waits.
const (
	ScrapeInterval  = 5 * time.Second
	DrillEvaluation = 2 * time.Second
)

// setDefaults fills in what the file leaves out. Nothing else sets a default.
func (s *Stack) setDefaults() {
	spec := &s.Spec
	if spec.Cluster.Context == "" {
		setDefault(&spec.Cluster.Nodes, 1)
	}
	if !s.positions.has("/spec/aws") {
		spec.AWS.Emulator = EmulatorNone
	}
	if spec.AWS.Endpoint == "" {
		setDefault(&spec.AWS.Emulator, EmulatorLocalStack)
	}
	setDefault(&spec.AWS.Region, DefaultRegion)
	if spec.Observability.Enabled == nil {
		on := true
		spec.Observability.Enabled = &on
	}
	for i := range spec.Images {
		setDefault(&spec.Images[i].Dockerfile, DefaultDockerfile)
		if base := spec.Images[i].Base; base != nil {
			setDefault(&base.Arg, DefaultBaseArg)
		}
	}
	for i := range spec.Terraform {
		setDefault(&spec.Terraform[i].Tool, DefaultTool)
	}
	for i := range spec.Releases {
		setDefault(&spec.Releases[i].Namespace, DefaultNamespace)
		setDefault(&spec.Releases[i].Timeout, Duration(DefaultTimeout))
	}
	for i := range spec.Drills {
		spec.setDrillDefaults(&spec.Drills[i])
	}
	setDefault(&spec.Ports.AWS, DefaultPortAWS)
	setDefault(&spec.Ports.Prometheus, DefaultPortPrometheus)
	setDefault(&spec.Ports.Alertmanager, DefaultPortAlertmanager)
	setDefault(&spec.Ports.Grafana, DefaultPortGrafana)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (spec *Spec) setDrillDefaults(d *Drill) {
	setDefault(&d.Within, Duration(DefaultWithin))
	setDefault(&d.Resolves, Duration(DefaultWithin))
	if l := d.Load; l != nil {
		setDefault(&l.Method, "GET")
		setDefault(&l.Path, "/")
		setDefault(&l.Rate, 2)
	}
	if m := d.Inject.Memory; m != nil {
		setDefault(&m.Count, 1)
		setDefault(&m.Percent, 95)
	}
	if c := d.Inject.CPU; c != nil {
		setDefault(&c.Count, 1)
		setDefault(&c.Workers, 1)
	}
	if h := d.Inject.HTTP; h != nil {
		setDefault(&h.Status, 503)
		setDefault(&h.Percent, 100)
	}
	if t := d.Inject.Terraform; t != nil {
		setDefault(&t.Action, TamperDelete)
		if len(spec.Terraform) == 1 {
			setDefault(&t.Module, spec.Terraform[0].Name)
		}
	}
}
