package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// patchMount is where the control plane finds our kubeadm patches.
const patchMount = "/kind/sandbox-patches"

// corednsPatch makes DNS ready sooner: one replica is enough for a sandbox,
// and the default readiness probe looks only every ten seconds. kubeadm merges
// it into its own Deployment.
const corednsPatch = `{"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"coredns","readinessProbe":{"periodSeconds":1}}]}}}}
`

// The kubeadm patches, for what they buy:
//   - leader-elect=false: one scheduler and one controller manager have nobody
//     to elect; without it a restarted cluster waits out the old 15 s lease.
//   - unsafe-no-fsync: etcd still writes everything, so a stopped and restarted
//     cluster keeps its data, but a power failure of the host may lose it. On a
//     laptop's disk fsync is most of etcd's latency.
//   - serializeImagePulls=false: pods on one node pull at the same time.
//
// kubeadm's v1beta4 keeps extra arguments in lists, which a merge patch would
// replace whole, so they are appended by JSON patches. v1beta3, which kind
// uses for older node images, keeps them in maps.
const (
	argsV1beta4 = `
- {op: add, path: /controllerManager/extraArgs/-, value: {name: leader-elect, value: "false"}}
- {op: add, path: /scheduler/extraArgs, value: [{name: leader-elect, value: "false"}]}
- {op: add, path: /etcd, value: {local: {extraArgs: [{name: unsafe-no-fsync, value: "true"}]}}}
`
	argsV1beta3 = `
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
controllerManager: {extraArgs: {leader-elect: "false"}}
scheduler: {extraArgs: {leader-elect: "false"}}
etcd: {local: {extraArgs: {unsafe-no-fsync: "true"}}}
`
	initPatches = `
kind: InitConfiguration
patches: {directory: ` + patchMount + `}
`
	kubeletConfig = `
kind: KubeletConfiguration
serializeImagePulls: false
`
	// Kubelets from 1.35 on refuse to start on cgroup v1 unless told not to.
	kubeletCgroupV1 = `
kind: KubeletConfiguration
failCgroupV1: false
`
)

// kindConfig is the kind configuration of the cluster on the described engine,
// with the kubeadm patches in patchDir mounted into the control plane.
func kindConfig(cfg Config, info runtime.Info, patchDir string) *v1alpha4.Cluster {
	kc := &v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{APIVersion: "kind.x-k8s.io/v1alpha4", Kind: "Cluster"},
		Networking: v1alpha4.Networking{
			APIServerAddress: "127.0.0.1",
			APIServerPort:    int32(cfg.APIServerPort),
			IPFamily:         v1alpha4.IPv4Family,
		},
		Nodes: []v1alpha4.Node{{
			Role:  v1alpha4.ControlPlaneRole,
			Image: cfg.NodeImage,
			ExtraMounts: []v1alpha4.Mount{{
				HostPath:       patchDir,
				ContainerPath:  patchMount,
				Readonly:       true,
				SelinuxRelabel: true,
			}},
		}},
		KubeadmConfigPatches: []string{argsV1beta3, initPatches, kubeletConfig},
		KubeadmConfigPatchesJSON6902: []v1alpha4.PatchJSON6902{{
			Group: "kubeadm.k8s.io", Version: "v1beta4", Kind: "ClusterConfiguration", Patch: argsV1beta4,
		}},
	}
	if info.CgroupVersion == 1 {
		kc.KubeadmConfigPatches = append(kc.KubeadmConfigPatches, kubeletCgroupV1)
	}
	for range cfg.Nodes - 1 {
		kc.Nodes = append(kc.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: cfg.NodeImage})
	}
	return kc
}

// patchDir is the folder with the kubeadm patches. The control plane mounts
// it, so it stays for as long as the cluster does.
func (c *Cluster) patchDir() string {
	return filepath.Join(filepath.Dir(c.cfg.Kubeconfig), "kubeadm-patches")
}

// writePatches writes the kubeadm patches where the control plane mounts them.
func (c *Cluster) writePatches() error {
	dir := c.patchDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create folder for kubeadm patches: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "corednsdeployment+strategic.json"), []byte(corednsPatch), 0o600); err != nil {
		return fmt.Errorf("write kubeadm patch: %w", err)
	}
	return nil
}
