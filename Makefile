# One line per job; what a job needs it installs by itself (scripts/setup). `make test` is what CI runs.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/floss/target
SIM_DIR := $(CARGO_TARGET_DIR)-sim
SIM_CARGO := RUSTFLAGS="--cfg madsim --cfg mutants" CARGO_TARGET_DIR=$(SIM_DIR) cargo
SIM_TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
SIM := $(SIM_DIR)/$(SIM_TARGET)/sim/floss-sim
SIM_OUT := $(SIM_DIR)/runs
FLOSS := $(CARGO_TARGET_DIR)/release/floss
SEEDS ?= 1..64
SECONDS_VIRTUAL ?= 60
JOBS ?= $(shell nproc)

.PHONY: help build which demo check fmt-check clippy unit sim-build sim sim-smoke sweep mutants scenarios test bench fix interop clients setup
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
setup:
	@scripts/setup
build: setup ## the release binary
	@cargo build --release -q -p floss-cli
which: ## its path
	@echo $(FLOSS)
demo: build ## the main job in under a minute: three nodes, real data, a killed leader
	@scripts/demo $(FLOSS)
check: setup fmt-check clippy unit ## fast, writes nothing: format, lints, unit tests, corpus, tidy
fmt-check:
	@cargo fmt --all --check
clippy:
	@cargo clippy -q --workspace --all-targets -- -D warnings
unit:
	@cargo test -q --workspace
sim-build: setup
	@$(SIM_CARGO) build -q --profile sim --target $(SIM_TARGET) -p floss-sim
	@mkdir -p $(dir $(FLOSS)) && ln -sf $(SIM) $(dir $(FLOSS))floss-sim
sim: sim-build ## 64 seeds, each in two processes: make sim [SEEDS=1..64] [SEED=n] [PLAN=file]
	@$(SIM) run --seeds $(or $(SEED),$(SEEDS)) --seconds $(SECONDS_VIRTUAL) -j $(JOBS) $(if $(SEED)$(PLAN),,--regressions) $(addprefix --plan ,$(PLAN)) --out $(SIM_OUT)
sim-smoke: sim-build ## what CI runs of it: known plans, 8 short seeds, two planted bugs; some 2 minutes
	@scripts/sim-smoke $(SIM) $(SIM_OUT) $(JOBS)
sweep: sim-build ## many seeds: make sweep N=500
	@$(SIM) sweep -n $(or $(N),200) --seconds $(SECONDS_VIRTUAL) -j $(JOBS) --out $(SIM_OUT)
mutants: sim-build ## planted bugs: how many seeds until each is caught; writes docs/MUTANTS.md: make mutants [IDS=R01,L04] [N=200]
	@$(SIM) mutants --seeds $(or $(N),200) --seconds $(SECONDS_VIRTUAL) -j $(JOBS) $(if $(IDS),--ids $(IDS),--minimise 150 --table docs/MUTANTS.md) --out $(SIM_OUT)
scenarios: sim-build ## failures that users of Fluss reported, also with the planted bugs they name
	@$(SIM) scenarios -j $(JOBS) --out $(SIM_OUT) && $(SIM) scenarios --prove -j $(JOBS) --out $(SIM_OUT)
clients: setup ## the official clients against three real nodes: fluss-rs suite, pyfluss
	@scripts/clients
test: setup ## everything CI runs
	@scripts/test
bench: build ## ratios inside one run: append, latency, fetch, lookup, upsert, idle
	@$(FLOSS) bench all
interop: build ## the released Java client; needs a JDK and Maven
	@jepsen/interop/java/run $(FLOSS)
fix: ## format and apply lint suggestions
	@cargo fmt --all
	@cargo clippy -q --fix --allow-dirty --workspace --all-targets
