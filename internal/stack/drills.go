package stack

import (
	"reflect"
	"strings"
)

// Drill proves that an alert works: it breaks something real, and the alert has
// to fire, to reach its receiver and to resolve once the fault is undone.
type Drill struct {
	// Name of the alert, as in a rule file of the stack.
	Alert string `json:"alert" jsonschema:"minLength=1"`
	// What to break: exactly one fault.
	Inject Inject `json:"inject"`
	// Requests to send from when the fault is there until the alert is delivered,
	// for alerts that need some.
	Load *DrillLoad `json:"load,omitempty"`
	// Time from the fault until the alert is firing and delivered. Default: 2m.
	Within Duration `json:"within,omitempty"`
	// Time from the end of the fault until the alert is resolved, and that
	// delivered. Default: 2m.
	Resolves Duration `json:"resolves,omitempty"`
	// By how much to divide the durations of the rules, in place of what the
	// command says. 1 runs them as written.
	Compress int `json:"compress,omitempty" jsonschema:"minimum=1,maximum=1000"`
	// Receiver of the stack's Alertmanager configuration that has to get it.
	// Default: any that notifies somebody.
	Receiver string `json:"receiver,omitempty" jsonschema:"minLength=1"`
}

// Inject is a fault: exactly one of its fields is set.
type Inject struct {
	// Kill a container again and again, so that it restarts.
	Crash *CrashFault `json:"crash,omitempty"`
	// Delete pods again and again.
	Kill *KillFault `json:"kill,omitempty"`
	// Change the number of replicas of a workload.
	Scale *ScaleFault `json:"scale,omitempty"`
	// Fill the memory of a container up to a share of its limit.
	Memory *MemoryFault `json:"memory,omitempty"`
	// Use up the CPU of a container.
	CPU *CPUFault `json:"cpu,omitempty"`
	// Freeze the containers of a platform component: they keep what they hold and
	// do not answer.
	Pause *ContainerFault `json:"pause,omitempty"`
	// Stop the containers of a platform component.
	Stop *ContainerFault `json:"stop,omitempty"`
	// Cut the network of a platform component or of pods.
	Cut *CutFault `json:"cut,omitempty"`
	// Delay what pods send to the emulator or to a Service.
	Delay *DelayFault `json:"delay,omitempty"`
	// Answer what pods send to the emulator or to a Service with an error.
	HTTP *HTTPFault `json:"http,omitempty"`
	// Delete or change a resource behind Terraform's back.
	Terraform *TerraformFault `json:"terraform,omitempty"`
	// Run any command in a component.
	Exec *ExecFault `json:"exec,omitempty"`
}

// CrashFault kills a container again and again.
type CrashFault struct {
	// Label selector of the pods, as kubectl takes it: app=web-app.
	Selector string `json:"selector" jsonschema:"minLength=1"`
	// Namespace of the pods. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Name of the container in the pod. Default: its only one.
	Container string `json:"container,omitempty" jsonschema:"minLength=1"`
	// In how many of the pods. Default: all.
	Count int `json:"count,omitempty" jsonschema:"minimum=1"`
}

// KillFault deletes pods again and again.
type KillFault struct {
	// Label selector of the pods, as kubectl takes it: app=web-app.
	Selector string `json:"selector" jsonschema:"minLength=1"`
	// Namespace of the pods. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// How many of the pods. Default: all.
	Count int `json:"count,omitempty" jsonschema:"minimum=1"`
}

// ScaleFault changes the number of replicas of a workload.
type ScaleFault struct {
	// Workload, such as deployment/web-app or statefulset/db.
	Workload string `json:"workload" jsonschema:"pattern=^(deployment|statefulset|replicaset)/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"`
	// Namespace of the workload. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Number of replicas. Default: 0.
	Replicas int `json:"replicas,omitempty" jsonschema:"minimum=0,maximum=100"`
}

// MemoryFault fills the memory of a container.
type MemoryFault struct {
	// Label selector of the pods, as kubectl takes it: app=web-app.
	Selector string `json:"selector" jsonschema:"minLength=1"`
	// Namespace of the pods. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Name of the container in the pod. Default: its only one.
	Container string `json:"container,omitempty" jsonschema:"minLength=1"`
	// In how many of the pods. Default: one.
	Count int `json:"count,omitempty" jsonschema:"minimum=1"`
	// Share of the container's memory limit, in percent. Default: 95.
	Percent int `json:"percent,omitempty" jsonschema:"minimum=1,maximum=99"`
}

// CPUFault uses up the CPU of a container.
type CPUFault struct {
	// Label selector of the pods, as kubectl takes it: app=web-app.
	Selector string `json:"selector" jsonschema:"minLength=1"`
	// Namespace of the pods. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Name of the container in the pod. Default: its only one.
	Container string `json:"container,omitempty" jsonschema:"minLength=1"`
	// In how many of the pods. Default: one.
	Count int `json:"count,omitempty" jsonschema:"minimum=1"`
	// Number of busy loops, each of which takes up to one core. Default: 1.
	Workers int `json:"workers,omitempty" jsonschema:"minimum=1,maximum=64"`
}

// ContainerFault names a component that the engine runs containers of.
type ContainerFault struct {
	// Platform component: aws, cluster, observe/prometheus and so on.
	Component string `json:"component" jsonschema:"minLength=1"`
}

// CutFault cuts the network of a platform component, or of pods: exactly one of
// component and selector is set.
type CutFault struct {
	// Platform component: aws, observe/alertmanager and so on.
	Component string `json:"component,omitempty" jsonschema:"minLength=1"`
	// Label selector of pods, as kubectl takes it: app=web-app. What runs on the
	// pods' own node, such as the kubelet's probes, still reaches them.
	Selector string `json:"selector,omitempty" jsonschema:"minLength=1"`
	// Namespace of the pods. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
}

// DelayFault delays what is sent to the emulator, or to a Service: exactly one of
// component and service is set.
type DelayFault struct {
	// The emulator, as the pods reach it: aws.
	Component string `json:"component,omitempty" jsonschema:"enum=aws"`
	// Name of a Service.
	Service string `json:"service,omitempty" jsonschema:"minLength=1"`
	// Namespace of the Service. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// How long each answer is held back.
	Latency Duration `json:"latency"`
	// By how much the latency varies, up and down. Default: not at all.
	Jitter Duration `json:"jitter,omitempty"`
}

// HTTPFault answers requests to the emulator, or to a Service, with an error:
// exactly one of component and service is set.
type HTTPFault struct {
	// The emulator, as the pods reach it: aws.
	Component string `json:"component,omitempty" jsonschema:"enum=aws"`
	// Name of a Service.
	Service string `json:"service,omitempty" jsonschema:"minLength=1"`
	// Namespace of the Service. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Status of the answers. Default: 503.
	Status int `json:"status,omitempty" jsonschema:"minimum=400,maximum=599"`
	// Only requests of this method. Default: all.
	Method string `json:"method,omitempty" jsonschema:"pattern=^[A-Z]+$"`
	// Only requests whose path begins with this. Default: all.
	Path string `json:"path,omitempty" jsonschema:"pattern=^/"`
	// Share of these requests, in percent. Default: 100.
	Percent int `json:"percent,omitempty" jsonschema:"minimum=1,maximum=100"`
}

// TerraformFault deletes or changes a resource behind Terraform's back. Applying
// the module undoes it.
type TerraformFault struct {
	// Name of the Terraform module. Default: the only one.
	Module string `json:"module,omitempty" jsonschema:"minLength=1"`
	// Address of the resource, such as aws_sqs_queue.orders.
	Resource string `json:"resource" jsonschema:"minLength=1"`
	// What happens to it: delete, or change, which adds a tag. Default: delete.
	Action string `json:"action,omitempty" jsonschema:"enum=delete,enum=change"`
}

// ExecFault runs a command in a component, and another one to undo it.
type ExecFault struct {
	// Component to run it in, as `sandbox shell` takes it: release/web-app, aws.
	Component string `json:"component" jsonschema:"minLength=1"`
	// Command that breaks something, with its arguments.
	Run []string `json:"run" jsonschema:"minItems=1"`
	// Command that undoes it. It may run more than once.
	Undo []string `json:"undo" jsonschema:"minItems=1"`
}

// DrillLoad is HTTP requests that are sent to a Service while the fault is there,
// until the alert is delivered.
type DrillLoad struct {
	// Name of the Service.
	Service string `json:"service" jsonschema:"minLength=1"`
	// Namespace of the Service. Default: those of the stack's releases.
	Namespace string `json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([-a-z0-9]{0\\,61}[a-z0-9])?$"`
	// Port of the Service. Default: its only one.
	Port int `json:"port,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// Method of the requests. Default: GET.
	Method string `json:"method,omitempty" jsonschema:"enum=GET,enum=POST,enum=PUT,enum=DELETE"`
	// Path of the requests. Default: /.
	Path string `json:"path,omitempty" jsonschema:"pattern=^/"`
	// Body of the requests.
	Body string `json:"body,omitempty"`
	// Requests a second. Default: 2.
	Rate int `json:"rate,omitempty" jsonschema:"minimum=1,maximum=100"`
	// Command that removes what the requests have left. It runs when the fault is
	// undone, and may run more than once.
	Cleanup *Command `json:"cleanup,omitempty"`
}

// Command is a command in a component.
type Command struct {
	// Component to run it in, as `sandbox shell` takes it: release/web-app, aws.
	Component string `json:"component" jsonschema:"minLength=1"`
	// Command, with its arguments.
	Run []string `json:"run" jsonschema:"minItems=1"`
}

// What a TerraformFault does to its resource.
const (
	TamperDelete = "delete"
	TamperChange = "change"
)

// Kinds returns the kinds of the faults that are set, as the stack file names
// them, in the order in which the format lists them. A valid drill has one.
func (i Inject) Kinds() []string {
	var set []string
	v := reflect.ValueOf(i)
	for n := range v.NumField() {
		if !v.Field(n).IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(n).Tag.Get("json"), ",")
			set = append(set, name)
		}
	}
	return set
}
