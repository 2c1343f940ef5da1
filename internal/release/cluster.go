package release

import (
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// cluster holds the clients of one cluster.
type cluster struct {
	config   *rest.Config
	kube     kubernetes.Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
	mapper   meta.ResettableRESTMapper

	// helm returns Helm's configuration for a namespace; what Helm and the
	// API server have to say goes to the Reporter.
	helm func(namespace string, rep event.Reporter) (*action.Configuration, error)
}

// connect reads the kubeconfig. The cluster itself is not contacted yet.
func connect(kubeconfig, context string) (*cluster, error) {
	loader := func(namespace string) clientcmd.ClientConfig {
		return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: context, Context: clientcmdapi.Context{Namespace: namespace}},
		)
	}
	cfg, err := loader("").ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	cfg.QPS, cfg.Burst = -1, -1 // the API server does its own, fairer, limiting
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.UserAgent = "sandbox"

	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("set up discovery: %w", err)
	}
	cached := memory.NewMemCacheClient(disco)
	c := &cluster{config: cfg, mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached)}
	if c.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("set up the client: %w", err)
	}
	if c.dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("set up the dynamic client: %w", err)
	}
	if c.metadata, err = metadata.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("set up the metadata client: %w", err)
	}
	c.helm = func(namespace string, rep event.Reporter) (*action.Configuration, error) {
		g := &getter{cfg: rest.CopyConfig(cfg), cached: cached, mapper: c.mapper, loader: loader(namespace)}
		g.cfg.WarningHandler = warnings{rep}
		hc := new(action.Configuration)
		if err := hc.Init(g, namespace, "secret", debugLog(rep)); err != nil {
			return nil, fmt.Errorf("set up Helm: %w", err)
		}
		hc.SetHookOutputFunc(hookOutput(rep))
		return hc, nil
	}
	return c, nil
}

// getter gives Helm its clients. Discovery is cached in memory: the usual one
// keeps files in the user's ~/.kube. The loader decides the namespace of those
// objects that name none.
type getter struct {
	cfg    *rest.Config
	cached discovery.CachedDiscoveryInterface
	mapper meta.RESTMapper
	loader clientcmd.ClientConfig
}

func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.cfg), nil }

func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.cached, nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.mapper, nil }

func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.loader }

// warnings passes the API server's warnings on, instead of to stderr.
type warnings struct{ rep event.Reporter }

func (w warnings) HandleWarningHeader(code int, _, text string) {
	if code == 299 && text != "" {
		w.rep.Log("kubernetes", "warning: "+text)
	}
}

func debugLog(rep event.Reporter) action.DebugLog {
	return func(format string, args ...any) { rep.Log("helm", fmt.Sprintf(format, args...)) }
}
