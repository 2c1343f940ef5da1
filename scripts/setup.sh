#!/usr/bin/env bash
# Installs what is needed to build sandbox and this machine lacks. Says what it
# does; does nothing where everything is there. What is needed to run it,
# `sandbox doctor --fix` installs.
set -euo pipefail

if ! command -v go >/dev/null 2>&1; then
  echo "setup: Go 1.26 or newer is needed: https://go.dev/doc/install" >&2
  exit 1
fi
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need make make
need git git
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || [ -e /etc/ssl/cert.pem ] || missing+=(ca-certificates)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: please install: ${missing[*]}" >&2
  exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "setup: installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -q && \
       "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "setup: apt-get failed; the lines above say why" >&2
  exit 1
fi
