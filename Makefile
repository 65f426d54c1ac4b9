# Treadle. `make` alone lists what there is; every target does its own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN  := .venv/bin
ARM  ?= targeted
SEED ?= 1
TASKS ?= 10000
FAULTS ?= 200
ARGS ?=
BENCH ?= control

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.installed ## Make .venv and install all; get RabbitMQ by apt where that is possible
	@scripts/rabbitmq.sh

.venv/.installed: pyproject.toml constraints.txt scripts/venv.sh scripts/python.sh
	@scripts/venv.sh

.PHONY: demo
demo: setup ## Watch a small model get better: make demo [ARM=targeted|random|none] [SEED=1] [ARGS=--keep]
	@$(BIN)/treadle demo --arm $(ARM) --seed $(SEED) $(ARGS)

.PHONY: test
test: setup ## Run all tests on real parts: make test [ARGS="tests/unit -k machine"]
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: chaos
chaos: setup ## Break real processes at random and look for what was lost: make chaos [TASKS=10000] [FAULTS=200] [SEED=1]
	@$(BIN)/python -m tests.chaos --tasks $(TASKS) --faults $(FAULTS) --seed $(SEED)

.PHONY: long
long: setup ## A phase that outlasts RabbitMQ's patience with a consumer, at full length: about four minutes
	@$(BIN)/python -m pytest -m long $(ARGS)

.PHONY: bench
bench: .venv-bench/.installed ## Measure: make bench BENCH=control [ARGS="--quick"]; ARGS=--help tells the options
	@scripts/rabbitmq.sh
	@.venv-bench/bin/python -m benchmarks.$(BENCH) $(ARGS)

.venv-bench/.installed: pyproject.toml scripts/venv-bench.sh scripts/python.sh
	@scripts/venv-bench.sh

.PHONY: check
check: .venv/.installed ## Lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: .venv/.installed ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
