#!/usr/bin/env bash
# Makes docs/dashboard/: what the dashboard and up show on a real stack, as text
# and as pictures. It runs the e2e tests that look at the terminal. $1: build tags.
set -euo pipefail
tags=$1
freeze=github.com/charmbracelet/freeze@v0.2.2
out=$PWD/docs/dashboard
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SANDBOX_CAPTURES=$work go test -tags "$tags e2e" -count=1 -timeout 40m -v -run 'TestWebApp|TestTerminal' ./e2e
GOFLAGS='' GOBIN=$work go install "$freeze"
rm -rf "$out"
mkdir -p "$out"
for picture in "$work"/*.ansi; do
  name=$(basename "$picture" .ansi)
  "$work/freeze" "$picture" --language ansi --output "$out/$name.svg" \
    --font.family monospace --font.size 12 --line-height 1.25 --padding 8 --background '#101418'
  cp "$work/$name.txt" "$out/"
done
