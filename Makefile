# Every command a person or a pipeline needs. `make` alone lists them.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# The first Python on the path that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TESTS_AT_ONCE ?= auto

.PHONY: help demo test check format lint types imports tests simulate fuzz test-pythons bench-decisions bench-front bench-rollouts bench-check bench-endurance bench-little-traffic permissions docs lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## run the whole job on a local Cloud Run: four rollouts, under four minutes
	@$(BIN)/canary demo

test: check  ## everything that must pass: format, lint, types, import contracts, tests

check: format lint types imports tests  ## the same as make test

format: $(VENV)/.dev
	@$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy

imports: $(VENV)/.dev
	@$(BIN)/lint-imports

tests: $(VENV)/.dev  ## the tests alone
	@$(BIN)/pytest -n $(TESTS_AT_ONCE) $(ARGS)

# Each of these parsers reads what strangers write.
FUZZED = record policy log-filter fault
SECONDS_EACH ?= 60

fuzz: $(VENV)/.dev  ## look for texts that break the parsers, a minute each; what is found stays in .fuzz/
	@set -e; for parser in $(FUZZED); do $(BIN)/python tests/fuzz/run.py $$parser --seconds $(SECONDS_EACH); done

simulate: $(VENV)/.dev  ## random runs: ARGS="--seed 7 --runs 300", --trace, --summary FILE, --kills
	@PYTHONPATH=tests $(BIN)/python tests/simulation/simulate.py $(ARGS)

bench-decisions: $(VENV)/.bench  ## how soon and how rightly it decides, beside other ways; writes docs/
	@$(BIN)/python benchmarks/decisions.py $(ARGS)

bench-front: $(VENV)/.dev  ## how fast the HTTP front of the local Cloud Run is, beside nginx; writes docs/
	@sh benchmarks/tools.sh
	@$(BIN)/python benchmarks/front.py $(ARGS)

bench-rollouts: $(VENV)/.dev  ## simulated rollouts a second over gRPC, and the cost of a pass as it grows old
	@PYTHONPATH=tests:tests/simulation $(BIN)/python benchmarks/rollouts.py $(ARGS)

bench-check: $(VENV)/.dev  ## calls and seconds of one pass over 200 services
	@PYTHONPATH=tests:tests/simulation $(BIN)/python benchmarks/check.py $(ARGS)

bench-endurance: $(VENV)/.dev  ## memory, threads and files of a controller over 10,000 passes
	@$(BIN)/python benchmarks/endurance.py $(ARGS)

bench-little-traffic: $(VENV)/.dev  ## ten requests an hour: users harmed, good ones promoted, seconds to undo
	@PYTHONPATH=tests:tests/simulation $(BIN)/python benchmarks/little_traffic.py $(ARGS)

permissions: $(VENV)/.dev  ## measure which permission each command needs, and write docs/permissions.md
	@PYTHONPATH=tests:tests/simulation $(BIN)/python tests/simulation/permission_matrix.py

docs: $(VENV)/.dev  ## write the generated parts of the documentation anew
	@$(BIN)/python docs/generate.py

test-pythons: $(VENV)/.dev  ## the tests alone, on every other supported Python that is installed
	@sh tests/pythons.sh

lock: $(VENV)/.dev  ## write the locked requirements anew
	@sh requirements/lock.sh $(BIN)/uv

clean:  ## remove what was installed and cached
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# One file marks each set of requirements as installed, so that a second run starts at once.
$(VENV)/.demo: requirements/emulator.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/emulator.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	@echo "Installing the development tools into $(VENV) (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	@echo "Installing what benchmarks need into $(VENV) (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
