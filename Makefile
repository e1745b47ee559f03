# `make demo` and `make test` need nothing but git, make, curl and a Rust toolchain on Debian or Ubuntu.

SHELL := /bin/bash
export PATH := $(CURDIR)/.tools/bin:$(PATH)
# The sidecar and the tests never link the extension, and are built with one feature set.
PACKAGES := -p integratedb-cache -p integratedb-claims -p integratedb-events -p integratedb-template -p integratedb-wire -p integratedb-sidecar -p integratedb-tests

.PHONY: help demo test setup drivers ext build tuned unit lint fuzz fmt bench clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: setup ext ## walk the guide against a sample database of its own
	@cargo build --quiet -p integratedb-sidecar
	@scripts/demo.sh

test: drivers ext ## everything that proves it works
	cargo build --quiet -p integratedb-sidecar
	# A test says what was wrong and where; backtraces would bury it.
	RUST_BACKTRACE=0 cargo nextest run $(PACKAGES) -p integratedb-listener -p integratedb-sync-peers
	cargo test --quiet --doc $(PACKAGES)

setup: ## install what is missing, make a private Postgres
	@scripts/setup.sh

drivers: ## install the programs that the tests run: database clients, Redis, verifiers of webhooks, schemathesis
	@scripts/setup.sh drivers

ext: setup ## build the extension and install it into the private Postgres
	@scripts/install-ext.sh

build: ## the sidecar, optimised
	cargo build --release -p integratedb-sidecar

tuned: setup ext ## the sidecar, optimised for what it does most: half an hour
	@scripts/tune.sh

unit: ## the tests that need no Postgres
	cargo nextest run -p integratedb-cache -p integratedb-claims -p integratedb-events -p integratedb-template -p integratedb-wire -p integratedb-sidecar -p integratedb-listener -p integratedb-sync-peers

lint: ## format, clippy, licences and sources of dependencies, links in docs
	@scripts/setup.sh lint
	cargo fmt --all --check
	cargo clippy --quiet --all-targets $(PACKAGES) -p integratedb-listener -p integratedb-responder -p integratedb-sync-peers -- -D warnings
	. .run/env && PGRX_HOME=$(CURDIR)/.tools/pgrx CARGO_TARGET_DIR=$(CURDIR)/target/pgrx \
	    cargo clippy --quiet --release -p integratedb-ext --no-default-features --features pg$$PG_MAJOR -- -D warnings
	cargo deny --log-level error check bans licenses sources
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps $(PACKAGES)

fuzz: ## feed random bytes to what reads bytes from outside, SECONDS_EACH=60
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh

fmt: ## format the code
	cargo fmt --all

bench: setup ext ## make bench NAME=contract: figures, also in bench/results
	@[ -x "bench/$(NAME)/run.sh" ] || { echo "make bench NAME=…: there is $(notdir $(patsubst %/,%,$(dir $(wildcard bench/*/run.sh))))" >&2; exit 1; }
	@bench/$(NAME)/run.sh

clean: ## what was built and every cluster
	rm -rf target .run/clusters
