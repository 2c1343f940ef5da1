#!/usr/bin/env bash
# Everything that needs the real engine: the platform images, the e2e
# scenarios, and the integration tests of each adapter. $1: build tags.
set -euo pipefail
tags=$1
run() { echo "test: $*" >&2; "$@"; }

run make build
run bin/sandbox doctor --images packages --fix --yes
# Built once, with progress, so that no test is silent for minutes.
bin/sandbox images build --progress plain
SANDBOX_TEST_PROVIDERS=$(bin/sandbox images build terraform-provider-aws -q -o json | sed -n 's/.*"path": "\(.*\)".*/\1/p')
export SANDBOX_TEST_PROVIDERS

if command -v npm >/dev/null 2>&1; then
  (cd stacks/web-app/app && run npm ci --no-audit --no-fund --silent && run npm test --silent)
fi

run go test -tags "$tags e2e" -count=1 -timeout 60m -v ./e2e
# The same on Docker, without what has nothing to do with the engine or has run.
SANDBOX_E2E_RUNTIME=docker run go test -tags "$tags e2e" -count=1 -timeout 60m -v \
  -skip 'TestBadInputCreatesNothing|TestPortTaken|TestSameOnBothEngines|TestStaysOnItsEngine|TestBuildah|TestDoctor' ./e2e

# The adapters, each against the real thing. The e2e scenarios have loaded the
# images that they need into the engine.
cleanup() { bin/sandbox down --name integration --yes --progress quiet; }
trap cleanup EXIT
cleanup
run bin/sandbox up minimal --name integration --ports auto --progress plain
run bin/sandbox exec --name integration -- sh -c 'SANDBOX_TEST_KUBECONFIG=$KUBECONFIG exec "$@"' sh \
  go test -tags "$tags integration" -count=1 -timeout 30m -p 1 ./internal/release ./internal/inject
cleanup
# The store may hold those of earlier builds as well.
in_use() { bin/sandbox images list -o json | sed -n "/\"name\": \"$1\"/,/}/s/.*\"ref\": \"\(.*\)\".*/\1/p"; }
SANDBOX_TEST_NODE_IMAGE=$(in_use node)
SANDBOX_TEST_LOCALSTACK=$(in_use localstack)
export SANDBOX_TEST_NODE_IMAGE SANDBOX_TEST_LOCALSTACK
run go test -tags "$tags integration" -count=1 -timeout 40m -p 1 \
  ./images/... ./internal/agent/... ./internal/aws ./internal/cluster ./internal/doctor ./internal/image ./internal/live ./internal/observe ./internal/packages \
  ./internal/runtime/... ./internal/terraform
