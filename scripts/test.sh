#!/usr/bin/env bash
# Everything that needs the real engine: the platform images, the integration
# tests of each adapter, and the e2e scenarios. $1: build tags.
set -euo pipefail
tags=$1

make build
# Built once, with progress, so that no test is silent for minutes.
bin/sandbox images build --progress plain
if command -v node >/dev/null 2>&1; then
  (cd stacks/web-app/app && npm ci --no-audit --no-fund --silent && npm test)
fi
go test -tags "$tags integration" -count=1 -timeout 40m -p 1 -run 'Integration|Conformance' ./internal/... ./images/...
go test -tags "$tags e2e" -count=1 -timeout 60m -v ./e2e/...
