package observe

import "time"

// The scrape jobs. Rules and dashboards select by these names.
const (
	JobPrometheus       = "prometheus"
	JobAlertmanager     = "alertmanager"
	JobPods             = "kubernetes-pods"
	JobKubelet          = "kubernetes-kubelet"
	JobCadvisor         = "kubernetes-cadvisor"
	JobKubeStateMetrics = "kube-state-metrics"
)

// kubeSystem is the namespace that sandbox's own parts in the cluster live in.
const kubeSystem = "sandbox-system"

// Where the credentials for the Kubernetes API are, relative to the
// configuration's folder.
const (
	clusterFolder = "cluster"
	tokenFile     = clusterFolder + "/token"
	caFile        = clusterFolder + "/ca.crt"
	serverFile    = clusterFolder + "/server"
)

const meta = "__meta_kubernetes_"

// slowFactor is by how much kubelet and cAdvisor are scraped less often.
const slowFactor = 3

// ScrapeInterval is how often the targets of a job are scraped.
func ScrapeInterval(job string) time.Duration {
	if job == JobKubelet || job == JobCadvisor {
		return slowFactor * DefaultInterval
	}
	return DefaultInterval
}

// kubernetesJobs returns the jobs that discover their targets in the cluster
// and scrape them through the API server's proxy.
//
// Kubelet and cAdvisor answer with thousands of series and refresh cAdvisor's
// figures only every 10 to 15 seconds, so they are scraped at a third of the
// rate.
func kubernetesJobs(server string, interval time.Duration) []*scrapeConfig {
	slow := promDuration(slowFactor * interval)
	ignoreTimestamps := false

	kubelet := kubernetesJob(JobKubelet, server, "node", "",
		proxyPath([]string{meta + "node_name"}, "(.+)", "/api/v1/nodes/$1/proxy/metrics"),
		label(meta+"node_name", "instance"),
		label(meta+"node_name", "node"))
	kubelet.Interval, kubelet.Timeout = slow, slow

	cadvisor := kubernetesJob(JobCadvisor, server, "node", "",
		proxyPath([]string{meta + "node_name"}, "(.+)", "/api/v1/nodes/$1/proxy/metrics/cadvisor"),
		label(meta+"node_name", "instance"),
		label(meta+"node_name", "node"))
	cadvisor.Interval, cadvisor.Timeout = slow, slow
	// cAdvisor stamps its samples with the time of its own last look; with
	// them, series of containers that are gone would linger for 5 minutes.
	cadvisor.Timestamps = &ignoreTimestamps

	stateMetrics := kubernetesJob(JobKubeStateMetrics, server, "pod", kubeSystem,
		keep(meta+"pod_label_app_kubernetes_io_name", "kube-state-metrics"),
		keep(meta+"pod_container_port_number", "8080"),
		proxyPath([]string{meta + "namespace", meta + "pod_name"}, "([^;]+);([^;]+)",
			"/api/v1/namespaces/$1/pods/$2:8080/proxy/metrics"),
		label(meta+"pod_name", "instance"))
	// Its series are about other objects: their namespace and pod labels
	// must win over those of the target.
	stateMetrics.HonorLabels = true

	pods := kubernetesJob(JobPods, server, "pod", "", podRelabeling()...)
	return []*scrapeConfig{pods, kubelet, cadvisor, stateMetrics}
}

// podRelabeling selects pods annotated with prometheus.io/scrape: "true" and
// honours prometheus.io/port, path and scheme. Without a port annotation,
// every declared container port is scraped.
func podRelabeling() []relabel {
	annotation := func(name string) string { return meta + "pod_annotation_prometheus_io_" + name }
	return []relabel{
		keep(annotation("scrape"), "true"),
		{SourceLabels: []string{meta + "pod_phase"}, Regex: "Succeeded|Failed", Action: "drop"},
		{SourceLabels: []string{meta + "pod_container_init"}, Regex: "true", Action: "drop"},
		{SourceLabels: []string{meta + "pod_container_port_number"}, Regex: "(.+)", TargetLabel: "__tmp_port"},
		{SourceLabels: []string{annotation("port")}, Regex: "([0-9]+)", TargetLabel: "__tmp_port"},
		keep("__tmp_port", "[0-9]+"),
		{TargetLabel: "__tmp_path", Replacement: "/metrics"},
		{SourceLabels: []string{annotation("path")}, Regex: "/?(.+)", TargetLabel: "__tmp_path", Replacement: "/$1"},
		// The proxy takes "https:name:port" for pods that speak TLS.
		{SourceLabels: []string{annotation("scheme")}, Regex: "https", TargetLabel: "__tmp_scheme", Replacement: "https:"},
		proxyPath([]string{meta + "namespace", "__tmp_scheme", meta + "pod_name", "__tmp_port", "__tmp_path"},
			"([^;]+);([^;]*);([^;]+);([^;]+);(.+)", "/api/v1/namespaces/$1/pods/$2$3:$4/proxy$5"),
		{
			SourceLabels: []string{meta + "pod_name", "__tmp_port"}, Separator: ":",
			Regex: "(.+)", TargetLabel: "instance",
		},
		label(meta+"namespace", "namespace"),
		label(meta+"pod_name", "pod"),
		label(meta+"pod_node_name", "node"),
		label(meta+"pod_label_app", "app"),
		label(meta+"pod_label_app_kubernetes_io_name", "app"),
	}
}

// kubernetesJob returns a job whose targets of the role are reached at the API
// server. A namespace limits the discovery to it.
func kubernetesJob(name, server, role, namespace string, rules ...relabel) *scrapeConfig {
	auth := &authorization{Type: "Bearer", CredentialsFile: tokenFile}
	tls := &tlsConfig{CAFile: caFile}
	sd := kubernetesConfig{APIServer: server, Role: role, Authorization: auth, TLS: tls}
	if namespace != "" {
		sd.Namespaces = &namespaceNames{Names: []string{namespace}}
	}
	return &scrapeConfig{
		JobName:       name,
		Scheme:        "https",
		Authorization: auth,
		TLS:           tls,
		Kubernetes:    []kubernetesConfig{sd},
		RelabelConfigs: append(rules,
			relabel{TargetLabel: "__address__", Replacement: hostOf(server)}),
	}
}

func keep(source, regex string) relabel {
	return relabel{SourceLabels: []string{source}, Regex: regex, Action: "keep"}
}

// label copies a label, where it is not empty.
func label(source, target string) relabel {
	return relabel{SourceLabels: []string{source}, Regex: "(.+)", TargetLabel: target}
}

func proxyPath(sources []string, regex, replacement string) relabel {
	return relabel{SourceLabels: sources, Regex: regex, TargetLabel: "__metrics_path__", Replacement: replacement}
}
