// Package stack reads a stack file: the one file that describes an environment.
// Load returns the desired state, validated and with every default applied, or
// an error that names the file, the line and the column, the value and the rule
// it breaks. Nothing outside the stack file's own folder is read.
package stack

import (
	"path/filepath"
	"time"
)

//go:generate go test -run ^TestSchemaIsUpToDate$ . -update

// APIVersion and Kind are what a stack file has to declare.
const (
	APIVersion = "sandbox/v1alpha1"
	Kind       = "Stack"
)

// FileName is the name of the stack file in a stack's folder.
const FileName = "stack.yaml"

// Stack is the desired state of one environment.
type Stack struct {
	// Version of this format. Always sandbox/v1alpha1.
	APIVersion string `json:"apiVersion" jsonschema:"enum=sandbox/v1alpha1"`
	// Kind of this document. Always Stack.
	Kind string `json:"kind" jsonschema:"enum=Stack"`
	// Metadata names the stack.
	Metadata Metadata `json:"metadata"`
	// Spec is what the environment consists of.
	Spec Spec `json:"spec"`

	// Dir is the stack's folder, absolute and with symbolic links resolved.
	// Every path in Spec is relative to it.
	Dir string `json:"-"`
	// File is the stack file as it was given, for messages.
	File string `json:"-"`

	positions positions
}

// Metadata names the stack.
type Metadata struct {
	// Name of the sandbox, used for its cluster, network and state folder.
	Name string `json:"name" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,38}[a-z0-9])?$"`
}

// Spec is what the environment consists of.
type Spec struct {
	// Cluster is the Kubernetes cluster.
	Cluster Cluster `json:"cluster,omitempty"`
	// AWS is the AWS emulator. Without this key there is none.
	AWS AWS `json:"aws,omitempty"`
	// Observability is Prometheus, Alertmanager and Grafana.
	Observability Observability `json:"observability,omitempty"`
	// Images to build and to load into the cluster.
	Images []Image `json:"images,omitempty"`
	// Terraform modules to apply to the emulator.
	Terraform []Terraform `json:"terraform,omitempty"`
	// Releases are Helm charts to install.
	Releases []Release `json:"releases,omitempty"`
	// Drills prove that alerts fire, arrive and resolve.
	Drills []Drill `json:"drills,omitempty"`
	// Ports on this computer. All of them bind 127.0.0.1.
	Ports Ports `json:"ports,omitempty"`
}

// Cluster is the Kubernetes cluster.
type Cluster struct {
	// Number of nodes of the kind cluster. Default: 1.
	Nodes int `json:"nodes,omitempty" jsonschema:"minimum=1,maximum=9"`
	// Kubeconfig context of an existing cluster to use instead of kind.
	Context string `json:"context,omitempty" jsonschema:"minLength=1"`
}

// AWS is the AWS emulator.
type AWS struct {
	// Which emulator answers in place of AWS. Default: localstack.
	Emulator string `json:"emulator,omitempty" jsonschema:"enum=localstack,enum=ministack,enum=none"`
	// URL of an emulator that already runs, in place of one started here.
	Endpoint string `json:"endpoint,omitempty" jsonschema:"pattern=^https?://"`
	// Services that have to be available before anything uses the emulator.
	// Default: every service that the emulator offers, each started when it is first used.
	Services []string `json:"services,omitempty" jsonschema:"uniqueItems=true,pattern=^[a-z0-9]([-a-z0-9]{0\\,38}[a-z0-9])?$"`
	// AWS region. Default: us-east-1.
	Region string `json:"region,omitempty" jsonschema:"pattern=^[a-z]{2}(-[a-z]+)+-[0-9]$"`
}

// The emulators.
const (
	EmulatorLocalStack = "localstack"
	EmulatorMiniStack  = "ministack"
	EmulatorNone       = "none"
)

// On reports whether the stack has an AWS emulator.
func (a AWS) On() bool { return a.Endpoint != "" || (a.Emulator != "" && a.Emulator != EmulatorNone) }

// Observability is Prometheus, Alertmanager and Grafana.
type Observability struct {
	// Whether to run them. Default: true.
	Enabled *bool `json:"enabled,omitempty"`
	// Prometheus rule files.
	Rules []string `json:"rules,omitempty" jsonschema:"uniqueItems=true,minLength=1"`
	// Unit tests of the rules, as promtool takes them.
	Tests []string `json:"tests,omitempty" jsonschema:"uniqueItems=true,minLength=1"`
	// Alertmanager configuration. Default: alerts are shown, and sent to nobody.
	Alertmanager string `json:"alertmanager,omitempty" jsonschema:"minLength=1"`
	// Grafana dashboards: JSON files, or folders of them.
	Dashboards []string `json:"dashboards,omitempty" jsonschema:"uniqueItems=true,minLength=1"`
	// Whether to collect traces. Default: false.
	Tracing bool `json:"tracing,omitempty"`
}

// On reports whether the stack is observed.
func (o Observability) On() bool { return o.Enabled == nil || *o.Enabled }

// Image is a container image to build and to load into the cluster.
type Image struct {
	// Name of the image. Other parts refer to it by this name.
	Name string `json:"name" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,38}[a-z0-9])?$"`
	// Folder that is sent to the build.
	Context string `json:"context" jsonschema:"minLength=1"`
	// Dockerfile, relative to the context. Default: Dockerfile.
	Dockerfile string `json:"dockerfile,omitempty" jsonschema:"minLength=1"`
	// Stage of the Dockerfile to build. Default: the last one.
	Target string `json:"target,omitempty" jsonschema:"minLength=1"`
	// Build arguments.
	Args map[string]string `json:"args,omitempty"`
	// Base lets an image of the platform stand in for the Dockerfile's base image.
	Base *Base `json:"base,omitempty"`
}

// Base lets an image of the platform stand in for a Dockerfile's base image,
// so that the build works where no registry can be reached.
type Base struct {
	// Build argument that names the base image in the Dockerfile. Default: BASE_IMAGE.
	Arg string `json:"arg,omitempty" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// Name of the platform's image, such as nodejs.
	Image string `json:"image" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,38}[a-z0-9])?$"`
}

// Terraform is a module to apply to the emulator.
type Terraform struct {
	// Name of the module. Other parts refer to it by this name.
	Name string `json:"name" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,38}[a-z0-9])?$"`
	// Folder of the root module.
	Dir string `json:"dir" jsonschema:"minLength=1"`
	// Program to run. Default: auto, whichever is installed.
	Tool string `json:"tool,omitempty" jsonschema:"enum=auto,enum=terraform,enum=tofu"`
	// Values of the module's input variables.
	Vars Values `json:"vars,omitempty"`
	// Components that have to be there first, such as release/db.
	DependsOn []string `json:"dependsOn,omitempty" jsonschema:"uniqueItems=true"`
}

// Release is a Helm chart to install.
type Release struct {
	// Name of the Helm release.
	Name string `json:"name" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,38}[a-z0-9])?$"`
	// Chart: a folder with a Chart.yaml, or a .tgz file.
	Chart string `json:"chart" jsonschema:"minLength=1"`
	// Namespace to install into, created where it is missing. Default: default.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Values for the chart. They win over those of valuesFiles.
	Values Values `json:"values,omitempty"`
	// Values files, later ones win.
	ValuesFiles []string `json:"valuesFiles,omitempty" jsonschema:"uniqueItems=true,minLength=1"`
	// Values that other parts of the stack provide. They win over values.
	ValuesFrom []ValueFrom `json:"valuesFrom,omitempty"`
	// How long the release may take to become ready. Default: 5m.
	Timeout Duration `json:"timeout,omitempty"`
	// Components that have to be there first, such as release/db.
	DependsOn []string `json:"dependsOn,omitempty" jsonschema:"uniqueItems=true"`
}

// ValueFrom is a chart value that another part of the stack provides: an output
// of a Terraform module, or the reference of an image.
type ValueFrom struct {
	// Name of the Terraform module whose output this is.
	Terraform string `json:"terraform,omitempty" jsonschema:"minLength=1"`
	// Name of the output.
	Output string `json:"output,omitempty" jsonschema:"minLength=1"`
	// Name of the image.
	Image string `json:"image,omitempty" jsonschema:"minLength=1"`
	// Part of the image's reference to set at path, as a string. Without it,
	// path gets the keys repository, tag and pullPolicy.
	Field string `json:"field,omitempty" jsonschema:"enum=ref,enum=repository,enum=tag"`
	// Where the value goes: keys of the chart's values joined by dots.
	Path string `json:"path" jsonschema:"pattern=^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$"`
}

// The parts of an image's reference.
const (
	FieldRef        = "ref"
	FieldRepository = "repository"
	FieldTag        = "tag"
)

// Ports are ports on this computer. All of them bind 127.0.0.1.
type Ports struct {
	// AWS emulator. Default: 4566.
	AWS int `json:"aws,omitempty" jsonschema:"minimum=1024,maximum=65535"`
	// Prometheus. Default: 9090.
	Prometheus int `json:"prometheus,omitempty" jsonschema:"minimum=1024,maximum=65535"`
	// Alertmanager. Default: 9093.
	Alertmanager int `json:"alertmanager,omitempty" jsonschema:"minimum=1024,maximum=65535"`
	// Grafana. Default: 3000.
	Grafana int `json:"grafana,omitempty" jsonschema:"minimum=1024,maximum=65535"`
}

// Duration is a length of time, written as in 90s, 5m or 1h30m.
type Duration time.Duration

// Position returns "file:line:col" of a value in the stack file, or of the value
// around it where the file leaves it out: Position("spec", "images", 0, "base").
func (s *Stack) Position(keys ...any) string { return s.positions.value(pointer(keys...)).String() }

// Path returns the absolute path of a path of the stack file.
func (s *Stack) Path(rel string) string { return filepath.Join(s.Dir, filepath.FromSlash(rel)) }
