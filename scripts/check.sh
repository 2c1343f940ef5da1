#!/usr/bin/env bash
# The fast checks. $1: build tags.
set -euo pipefail
tags=$1

unformatted=$(gofmt -l $(git ls-files -co --exclude-standard '*.go'))
if [ -n "$unformatted" ]; then
  echo "check: not formatted: $unformatted (gofmt -w)" >&2
  exit 1
fi
go vet -tags "$tags integration e2e bench" ./...
go test -tags "$tags" ./...
