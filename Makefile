# Every target works from a fresh clone; `make demo` and `make test` install
# what they need first (Debian and Ubuntu; elsewhere they say what is missing).
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# pkg/bindings of Podman needs these tags to compile without its C libraries.
TAGS     := remote exclude_graphdriver_btrfs containers_image_openpgp
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X github.com/sandbox-stack/sandbox/internal/cli.version=$(VERSION)
# The same flags everywhere, so that the program, its tests and the platform's
# Kubernetes programs share what they compile.
export CGO_ENABLED := 0
export GOFLAGS     := $(strip $(GOFLAGS) -trimpath)
CACHE    := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sandbox
TOOLS    := $(CACHE)/tools
STACK    ?= web-app

GOLANGCI_VERSION    := v2.15.0
GOFUMPT_VERSION     := v0.12.0
GOVULNCHECK_VERSION := v1.9.0

.PHONY: demo build check test e2e e2e-drills bench captures lint vuln golden generate setup engine clean help

demo: setup build ## bring the web-app stack up on this machine and show its health (STACK=minimal for another)
	bin/sandbox doctor $(STACK) --fix --yes
	bin/sandbox up $(STACK)

build: ## compile bin/sandbox
	@scripts/build.sh "$(TAGS)" "$(LDFLAGS)"

check: ## fast tests: format, vet, unit and golden tests (no engine, no network)
	scripts/check.sh "$(TAGS)"

test: engine check ## everything: check, the stacks' own tests, integration and e2e against the real engine
	scripts/test.sh "$(TAGS)"

e2e: engine ## only the e2e scenarios (RUN=regexp selects)
	go test -tags "$(TAGS) e2e" -count=1 -timeout 60m -v -run '$(or $(RUN),.)' ./e2e/...

e2e-drills: engine ## every drill of web-app twice, every broken link, a kill in every fault (RUN=regexp selects)
	go test -tags "$(TAGS) e2e drills" -count=1 -timeout 90m -v -run '$(or $(RUN),TestAllDrills|TestBrokenLinks|TestKilledDrills)' ./e2e

bench: engine ## compare `sandbox up` with the same work by hand, side by side
	go test -tags "$(TAGS) bench" -count=1 -timeout 60m -v ./e2e/bench/...

captures: engine ## docs/dashboard/: what is to be seen on a real stack, as text and pictures
	scripts/captures.sh "$(TAGS)"

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION) ## golangci-lint, the import rules among it
	$< run ./...

vuln: $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION) ## known vulnerabilities in what is called
	$< -tags "$(subst $() ,$(comma),$(TAGS))" ./...

golden: ## rewrite the golden files; look at the diff
	go test -tags "$(TAGS)" ./internal/... ./images/... ./stacks/... -update

generate: ## regenerate the stack file's JSON schema
	go generate -tags "$(TAGS)" ./...

setup: ## install what is missing to build
	scripts/setup.sh

engine: setup build ## install what is missing to run: Podman and what builds images from packages
	bin/sandbox doctor --fix --yes

clean: ## remove build results; the image cache stays
	rm -rf bin dist artifacts

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

comma := ,

$(TOOLS)/golangci-lint-%:
	GOBIN=$(TOOLS)/tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$*
	mv $(TOOLS)/tmp/golangci-lint $@

$(TOOLS)/govulncheck-%:
	GOBIN=$(TOOLS)/tmp go install golang.org/x/vuln/cmd/govulncheck@$*
	mv $(TOOLS)/tmp/govulncheck $@
