# `make` lists the targets. Every target does its own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN  := .venv/bin
ARM  ?= targeted
SEED ?= 1
TASKS ?= 10000
FAULTS ?= 200
SIZE ?= 10000
ARGS ?=
BENCH ?= control
# the peers of the control plane have an environment of their own
BENCH_ENV = $(if $(filter control,$(BENCH)),.venv-bench,.venv)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.installed ## Create .venv and install everything; install RabbitMQ by apt if possible
	@scripts/rabbitmq.sh

.venv/.installed: pyproject.toml constraints.txt scripts/venv.sh scripts/python.sh
	@scripts/venv.sh

.PHONY: demo
demo: setup ## Improve a small model, as a demonstration: make demo [ARM=targeted|random|none] [SEED=1] [ARGS=--keep]
	@$(BIN)/treadle demo --arm $(ARM) --seed $(SEED) $(ARGS)

.PHONY: test
test: setup ## Run all tests, with real servers: make test [ARGS="tests/unit -k machine"]
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: chaos
chaos: setup ## Run tasks with random faults and check that nothing is lost: make chaos [TASKS=10000] [FAULTS=200] [SEED=1]
	@$(BIN)/python -m tests.chaos --tasks $(TASKS) --faults $(FAULTS) --seed $(SEED)

.PHONY: attack
attack: setup ## Attack a real stack and report what stood still or was lost: make attack [SIZE=10000] [SEED=1] [ARGS="--only waits"]
	@$(BIN)/python -m tests.attack --size $(SIZE) --seed $(SEED) $(ARGS)

.PHONY: long
long: setup ## Test a phase that takes longer than RabbitMQ's consumer timeout, and the wheel: about four minutes
	@$(BIN)/python -m pytest -m long $(ARGS)

.PHONY: bench
bench: $(BENCH_ENV)/.installed ## Run a benchmark: make bench BENCH=control|start [ARGS="--quick"]; ARGS=--help lists the options
	@scripts/rabbitmq.sh
	@$(BENCH_ENV)/bin/python -m benchmarks.$(BENCH) $(ARGS)

.venv-bench/.installed: pyproject.toml scripts/venv-bench.sh scripts/python.sh
	@scripts/venv-bench.sh

.PHONY: check
check: .venv/.installed ## Check style, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: .venv/.installed ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
