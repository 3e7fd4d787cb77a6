# `make help` says what there is. Two commands matter: `make test` and `make lab`.
# Nothing is written outside this folder and the usual caches of cargo and apt.

# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# How the lab's programs are built: release (what an operator would run) or dev (quicker to build).
PROFILE ?= release
OUT := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# Tests that run at the same time. Clusters with timeouts of 75 ms want a core each.
TEST_THREADS ?= 2
# Seconds of `make fuzz`.
SECONDS ?= 60
# Runs of each kind of loss in `make bench`.
RUNS ?= 20

# Some tests make network namespaces and mount disks. As root they do; as a user who may sudo, only the test
# programs run as root and cargo stays the user; as any other user those tests are left out, which they say.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RUNNER := CARGO_TARGET_$(shell echo '$(HOST)' | tr 'a-z-' 'A-Z_')_RUNNER
ifneq ($(shell id -u),0)
  ifneq ($(shell sudo -n true 2>/dev/null && echo yes),)
    AS_ROOT := env $(RUNNER)="sudo -n -E"
  endif
endif

.DEFAULT_GOAL := help
.PHONY: help test kamailio-diff upgrade lab sim bench fuzz lint fmt deny build

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 15

test: ## Format, lints, documentation and every test (brings missing packages itself)
	@scripts/need-packages test lab kamailio
	cargo fmt --check
	scripts/check-tree
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	$(AS_ROOT) cargo test --workspace -- --test-threads=$(TEST_THREADS)

kamailio-diff: ## The same phones with Kamailio and with Relevo, message by message (docs/kamailio-differences.md)
	@scripts/need-packages test lab kamailio
	$(if $(AS_ROOT),$(AS_ROOT) RELEVO_DIFFERENCES=all,RELEVO_DIFFERENCES=all) cargo test -p agent --test kamailio_diff -- --nocapture

upgrade: ## From the release before to this one, by a backup, with a call running
	@scripts/need-packages test lab
	cargo build --quiet --profile $(PROFILE) -p agent --bins
	$(AS_ROOT) env RELEVO_PREVIOUS=$$(scripts/previous-release) RELEVO_NEW=$(abspath $(OUT))/relevo \
		cargo test -p ha-tests --test lab upgrade:: -- --nocapture

build: ## Build relevo and relevo-lab
	@scripts/need-packages test
	cargo build --profile $(PROFILE) -p agent -p ha-tests --bins

lab: ## The story: calls in every state survive the loss of a node, told as it happens
	@scripts/need-packages test lab
	cargo build --quiet --profile $(PROFILE) -p agent -p ha-tests --bins
	$(OUT)/relevo-lab demo

sim: ## Whole clusters in simulated time: SEEDS=200 of them from SEED=1 on; SEED=7 alone shows that one
	@scripts/need-packages test
	cargo build --quiet --profile $(PROFILE) -p ha-tests --bins
	$(OUT)/relevo-lab sim $(if $(SEEDS),--seeds $(SEEDS) $(if $(SEED),--seed $(SEED)),$(if $(SEED),--seed $(SEED) --trace,--seeds 200))

bench: ## Silent gaps beside keepalived, registrations and calls beside Kamailio, cost of a large state, of a message and of an entry
	@scripts/need-packages test lab kamailio bench
	cargo build --quiet --profile release -p agent -p ha-tests --bins
	$(TARGET)/release/relevo-lab bench --runs $(RUNS)
	cargo bench --quiet -p proxy-core --bench msg --bench engine
	$(if $(wildcard raft-store/benches/store.rs),cargo bench --quiet -p raft-store --bench store)

fuzz: ## Random input without end, for SECONDS=60
	@scripts/need-packages test
	scripts/fuzz $(SECONDS)

lint: ## Clippy, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format the code
	cargo fmt

deny: ## Licences, sources and doubled versions of the dependencies (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check bans licenses sources
