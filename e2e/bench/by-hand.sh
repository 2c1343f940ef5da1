#!/usr/bin/env bash
# What `sandbox up web-app` does, as an experienced engineer would write it with
# the tools' own commands, one after the other. The other side of the benchmark.
#
# Wants in the environment: NAME, WORK (an empty folder), REPO, NODE_IMAGE,
# LOCALSTACK_IMAGE, PROMETHEUS_IMAGE, ALERTMANAGER_IMAGE, BASE_IMAGE, PROVIDERS
# (a filesystem mirror, or empty for the registry), TF_PLUGIN_CACHE_DIR,
# TERRAFORM (terraform or tofu), AWS_PORT, PROMETHEUS_PORT, ALERTMANAGER_PORT,
# and kind, helm, kubectl, podman and curl on the PATH. It writes when each of
# its steps began to $WORK/steps, as SECONDS NAME.
#
# The cluster has the same tuning as a sandbox's, and whatever can be cached is,
# so that what differs is how the work is organised.
set -euo pipefail

stack=$REPO/stacks/web-app
network=$NAME
export KUBECONFIG=$WORK/kubeconfig
export KIND_EXPERIMENTAL_PROVIDER=podman KIND_EXPERIMENTAL_PODMAN_NETWORK=$network
label="sandbox.name=$NAME" # so that the benchmark can clean up

step() { echo "$(date +%s.%N) $*" >>"$WORK/steps"; }
wait_for() { # URL
  for _ in $(seq 600); do
    curl -fsS -o /dev/null "$1" 2>/dev/null && return
    sleep 0.2
  done
  echo "no answer from $1" >&2
  exit 1
}

step network
podman network create --label "$label" "$network" >/dev/null

step cluster
mkdir "$WORK/patches"
cat >"$WORK/patches/corednsdeployment+strategic.json" <<'JSON'
{"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"coredns","readinessProbe":{"periodSeconds":1}}]}}}}
JSON
cat >"$WORK/kind.yaml" <<YAML
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {apiServerAddress: 127.0.0.1, ipFamily: ipv4}
nodes:
  - role: control-plane
    extraMounts: [{hostPath: "$WORK/patches", containerPath: /kind/patches, readOnly: true}]
kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    patches: {directory: /kind/patches}
  - |
    kind: KubeletConfiguration
    serializeImagePulls: false
    failCgroupV1: false
kubeadmConfigPatchesJSON6902:
  - group: kubeadm.k8s.io
    version: v1beta4
    kind: ClusterConfiguration
    patch: |
      - {op: add, path: /controllerManager/extraArgs/-, value: {name: leader-elect, value: "false"}}
      - {op: add, path: /scheduler/extraArgs, value: [{name: leader-elect, value: "false"}]}
      - {op: add, path: /etcd, value: {local: {extraArgs: [{name: unsafe-no-fsync, value: "true"}]}}}
YAML
kind create cluster --name "$NAME" --image "$NODE_IMAGE" --config "$WORK/kind.yaml" --wait 3m --quiet
node=$NAME-control-plane

step localstack
podman run -d --name "$NAME-aws" --label "$label" --network "$network" --network-alias aws -p "127.0.0.1:$AWS_PORT:4566" \
  -e GATEWAY_LISTEN=0.0.0.0:4566 -e LOCALSTACK_HOST=aws-emulator.aws.svc.cluster.local:4566 -e SQS_ENDPOINT_STRATEGY=off \
  -e SKIP_SSL_CERT_DOWNLOAD=1 -e DISABLE_EVENTS=1 -e DNS_ADDRESS=0 \
  -e SERVICES=s3,sqs,sns,secretsmanager,ssm,iam,kms,sts -e EAGER_SERVICE_LOADING=1 -e STRICT_SERVICE_LOADING=0 "$LOCALSTACK_IMAGE" >/dev/null
wait_for "http://127.0.0.1:$AWS_PORT/_localstack/health"

step terraform
cp -r "$stack/terraform" "$WORK/terraform"
cat >"$WORK/terraform/override.tf" <<TF
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
  endpoints {
$(for s in s3 sqs sns secretsmanager ssm iam kms sts; do echo "    $s = \"http://127.0.0.1:$AWS_PORT\""; done)
  }
}
TF
export TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1
if [ -n "${PROVIDERS:-}" ]; then
  echo "provider_installation { filesystem_mirror { path = \"$PROVIDERS\" } }" >"$WORK/tfrc"
  export TF_CLI_CONFIG_FILE=$WORK/tfrc
fi
tf() { "$TERRAFORM" -chdir="$WORK/terraform" "$@"; }
tf init -input=false -no-color >"$WORK/terraform.log"
tf apply -input=false -auto-approve -no-color >>"$WORK/terraform.log"
bucket=$(tf output -raw bucket)
queue=$(tf output -raw queue_url)

step build
image=localhost/$NAME/web-app:1
trust=/etc/ssl/certs/ca-certificates.crt # for networks whose proxy has an authority of its own
podman build -q --format docker --label "$label" --volume "$trust:$trust:ro" \
  --build-arg "NODE_EXTRA_CA_CERTS=$trust" --build-arg "BASE_IMAGE=$BASE_IMAGE" -t "$image" "$stack/app" >/dev/null

step load
podman save "$image" | podman exec -i "$node" ctr -n k8s.io images import - >/dev/null

step kubernetes
kubectl apply -f "$REPO/internal/cluster/manifests/namespace.yaml" >/dev/null
kubectl apply -f "$REPO/internal/cluster/manifests/" >/dev/null
aws_ip=$(podman inspect -f "{{(index .NetworkSettings.Networks \"$network\").IPAddress}}" "$NAME-aws")
kubectl create namespace aws >/dev/null
kubectl create namespace production >/dev/null
kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: aws-emulator, namespace: aws}
spec: {ports: [{port: 4566, targetPort: 4566}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: aws-emulator, namespace: aws, labels: {kubernetes.io/service-name: aws-emulator}}
addressType: IPv4
ports: [{port: 4566}]
endpoints: [{addresses: ["$aws_ip"]}]
YAML
kubectl -n production create configmap aws-emulator --from-literal=AWS_REGION=us-east-1 \
  --from-literal=AWS_ENDPOINT_URL=http://aws-emulator.aws.svc.cluster.local:4566 >/dev/null
kubectl -n production create secret generic aws-emulator --from-literal=AWS_ACCESS_KEY_ID=test \
  --from-literal=AWS_SECRET_ACCESS_KEY=test >/dev/null

step observability
mkdir -p "$WORK/prometheus"
cp "$stack/alerts.yaml" "$WORK/prometheus/"
for _ in $(seq 100); do
  token=$(kubectl -n sandbox-system get secret sandbox-prometheus-token -o jsonpath='{.data.token}' | base64 -d)
  [ -n "$token" ] && break
  sleep 0.2
done
printf %s "$token" >"$WORK/prometheus/token"
kubectl -n sandbox-system get secret sandbox-prometheus-token -o jsonpath='{.data.ca\.crt}' | base64 -d >"$WORK/prometheus/ca.crt"
api="api_server: https://$node:6443, authorization: {credentials_file: token}, tls_config: {ca_file: ca.crt}"
through_api="scheme: https, authorization: {credentials_file: token}, tls_config: {ca_file: ca.crt}"
cat >"$WORK/prometheus/prometheus.yml" <<YAML
global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: [alerts.yaml]
alerting: {alertmanagers: [{static_configs: [{targets: ["alertmanager:9093"]}]}]}
scrape_configs:
  - {job_name: prometheus, static_configs: [{targets: ["localhost:9090"]}]}
  - {job_name: alertmanager, static_configs: [{targets: ["alertmanager:9093"]}]}
  - {job_name: kubernetes-cadvisor, $through_api, metrics_path: /api/v1/nodes/$node/proxy/metrics/cadvisor, static_configs: [{targets: ["$node:6443"]}]}
  - {job_name: kubernetes-kubelet, $through_api, metrics_path: /api/v1/nodes/$node/proxy/metrics, static_configs: [{targets: ["$node:6443"]}]}
  - {job_name: kube-state-metrics, $through_api, metrics_path: "/api/v1/namespaces/sandbox-system/services/kube-state-metrics:8080/proxy/metrics", static_configs: [{targets: ["$node:6443"]}]}
  - job_name: kubernetes-pods
    scheme: https
    authorization: {credentials_file: token}
    tls_config: {ca_file: ca.crt}
    kubernetes_sd_configs: [{role: pod, $api}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep}
      - source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_name, __meta_kubernetes_pod_annotation_prometheus_io_port]
        regex: (.+);(.+);(.+)
        target_label: __metrics_path__
        replacement: /api/v1/namespaces/\$1/pods/\$2:\$3/proxy/metrics
      - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
      - {source_labels: [__meta_kubernetes_pod_label_app], target_label: app}
      - {target_label: __address__, replacement: "$node:6443"}
YAML
printf 'route: {receiver: none}\nreceivers: [{name: none}]\n' >"$WORK/alertmanager.yml"
podman run -d --name "$NAME-alertmanager" --label "$label" --network "$network" --network-alias alertmanager \
  -p "127.0.0.1:$ALERTMANAGER_PORT:9093" -v "$WORK/alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro" "$ALERTMANAGER_IMAGE" \
  --config.file=/etc/alertmanager/alertmanager.yml --storage.path=/tmp --cluster.listen-address= >/dev/null
podman run -d --name "$NAME-prometheus" --label "$label" --network "$network" --network-alias prometheus --user 0 \
  -p "127.0.0.1:$PROMETHEUS_PORT:9090" -v "$WORK/prometheus:/etc/prometheus:ro" "$PROMETHEUS_IMAGE" \
  --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/tmp/data >/dev/null
wait_for "http://127.0.0.1:$ALERTMANAGER_PORT/-/ready"
wait_for "http://127.0.0.1:$PROMETHEUS_PORT/-/ready"

step release
helm upgrade --install web-app "$stack/chart" --namespace production --wait --timeout 5m \
  --set image.repository="${image%:*}" --set-string image.tag="${image##*:}" --set config.bucket="$bucket" --set config.queueUrl="$queue" >/dev/null
kubectl -n production rollout status deployment/web-app --timeout=3m >/dev/null

step health
kubectl -n kube-system rollout status deployment/coredns --timeout=3m >/dev/null
kubectl -n sandbox-system rollout status deployment/kube-state-metrics --timeout=3m >/dev/null
for _ in $(seq 600); do # five targets of the platform and three pods
  up=$(curl -fsS "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query" --data-urlencode 'query=count(up==1)==8' | grep -c '"value"' || true)
  [ "$up" = 1 ] && break
  sleep 0.2
done
[ "$up" = 1 ] || { echo "not every target is up" >&2; exit 1; }
step end
