#!/usr/bin/env bash
# Compiles bin/sandbox. A first compile takes minutes, so it says every five
# seconds how far it is; with everything compiled it says nothing.
# $1: build tags, $2: linker flags.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
go build -v -tags "$1" -ldflags "$2" -o bin/sandbox ./cmd/sandbox >"$log" 2>&1 &
build=$!
started=$SECONDS
next=5
while kill -0 "$build" 2>/dev/null; do
  sleep 0.2
  elapsed=$((SECONDS - started))
  if [ "$elapsed" -ge "$next" ]; then
    next=$((elapsed + 5))
    echo "build: $(grep -vc '^go: ' "$log" || true) packages compiled, $(grep -c '^go: downloading' "$log" || true) modules downloaded (${elapsed}s)" >&2
  fi
done
if ! wait "$build"; then
  grep -v '^go: downloading' "$log" | tail -n 40 >&2
  exit 1
fi
