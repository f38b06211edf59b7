# The targets that a developer needs; `make help` lists them. A target first installs, without asking, what it needs and this
# machine lacks (hack/setup says what), but nothing that only another target needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.NOTPARALLEL:

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
target := $(abspath $(or $(CARGO_TARGET_DIR),target))
lab := $(target)/debug/lab
export FERROLB_BIN := $(target)/release/ferrolb
# Runs each test binary where IPVS is available: here, or in a VM.
in_kernel := --config "target.'cfg(unix)'.runner=['$(lab)','run','--']"
# The same with a control plane.
in_kernel_with_plane := --config "target.'cfg(unix)'.runner=['$(lab)','run','--plane','--']"

.PHONY: help setup build binary lab test fmt-check lint docs unit lab-tier cluster-tier kernel-tier demo bench fmt clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: ## Install what building, the demo and all tests need
	@hack/setup test

build: ## Build target/release/ferrolb (the default)
	@hack/setup build
	@$(MAKE) --no-print-directory binary
	@echo "built: $(FERROLB_BIN)"

binary:
	@cargo build --release -p ferrolb

lab: setup
	@cargo build -p ferrolb-tests

test: setup fmt-check lint docs unit lab-tier cluster-tier kernel-tier ## Format, lints, docs, unit tests and all tiers

# Each part prints its name and how long it took; SECONDS is the shell's own timer.
took := && echo "   took $$SECONDS s"

fmt-check:
	@echo "== formatting"
	@cargo fmt --all --check

lint: ## Clippy, its warnings as errors
	@echo "== clippy"
	@cargo clippy --workspace --all-targets --quiet -- -D warnings $(took)

docs: ## API documentation, its warnings as errors
	@echo "== docs"
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet $(took)

unit: ## Unit tests: need nothing
	@echo "== unit tests"
	@cargo test --quiet && cargo test --quiet -p ferrolb-tests --test documents $(took)

lab-tier: binary lab ## Namespace tests: need root
	@echo "== lab tier"
	@cargo test -p ferrolb-tests --lib --bins --test lab_selftest --test lab $(took)

cluster-tier: binary lab ## Tests against a real control plane: need root; those with traffic run here, or in a VM
	@echo "== cluster tier"
	@cargo test -p ferrolb-tests --test cluster && \
	  cargo test -p ferrolb-tests $(in_kernel_with_plane) --test cluster_ipvs $(took)

kernel-tier: binary lab ## IPVS tests: here, or in a VM
	@echo "== kernel tier"
	@cargo test -p ferrolb-tests $(in_kernel) --test kernel --test kernel_ops $(took)

# The demo uses one profile throughout, so that its dependencies are built once. Installing the lab is mostly download and
# building is mostly computation, so the first run does both at once.
demo: ## Three nodes, a client, the users' manifests: shown end to end
	@hack/setup build
	@echo "== ferrolb and the lab (usually six minutes the first time, and then seconds)"
	@hack/setup demo & \
	  built=0; cargo build --release --bins -p ferrolb -p ferrolb-tests || built=$$?; \
	  wait $$! && exit $$built
	@$(target)/release/lab demo

bench: ## What passes, changes, memory and a busy start cost at 1,000 and 10,000 Services
	@hack/setup build
	@cargo bench -q -p ferrolb-proxy --bench passes
	@cargo bench -q -p ferrolb-node --bench node

fmt: ## Format the code
	@cargo fmt --all

clean: ## Remove what was built, target/ and all in it
	@rm -rf target
