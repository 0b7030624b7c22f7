# All commands for developers and CI. Needs Python 3.11 or later and make; installs itself into .venv.
# All paths are relative, so that a folder with a space in its name works.

PY := .venv/bin/python
# Processes that run tests; 0: in make's own, as --pdb needs it.
JOBS := 2
# Passed on to the command: `make test ARGS='-k fan_out'`, `make demo ARGS=--help`.
ARGS :=
# `make conformance TIMES=10 WORKERS=4`: rounds, and worker processes.
TIMES := 1
WORKERS := 2
# `make chaos MINUTES=30 SEED=7 WORKERS=4`: duration, and the seed of graphs and faults (default: a new one).
MINUTES := 5
SEED :=

# A virtual environment contains its absolute path: after the folder was moved or copied, make it again.
MADE_IN := $(shell cat .venv/made-in 2>/dev/null)
HERE := $(shell pwd -P)
ifneq "$(MADE_IN)" "$(HERE)"
$(shell rm -f .venv/ready-to-run .venv/ready-to-develop)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test conformance chaos check up bench clean

help: ## Say what there is (this)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready-to-run ## See it work: start everything, run an example graph over HTTP, stop
	@$(PY) -m agentflow.cli.main demo $(ARGS)

up: .venv/ready-to-run ## Run everything on this machine until Ctrl-C
	@$(PY) -m agentflow.cli.main up $(ARGS)

test: .venv/ready-to-develop ## Run all tests in JOBS processes, each on a real PostgreSQL and Valkey of its own
	@$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

conformance: .venv/ready-to-develop ## Run the tests that hold the contract, TIMES in a row on WORKERS processes
	@tests=$$(grep -o 'tests/[A-Za-z0-9_/]*\.py::[A-Za-z0-9_]*' tests/CONFORMANCE.md | sort -u); \
	for round in $$(seq $(TIMES)); do \
		echo "round $$round of $(TIMES), $(WORKERS) worker processes"; \
		AGENTFLOW_TEST_WORKERS=$(WORKERS) $(PY) -m pytest -q -n $(JOBS) --dist loadfile $(ARGS) $$tests || exit 1; \
	done

chaos: .venv/ready-to-develop ## Run random graphs for MINUTES while everything dies (SEED, WORKERS)
	@PYTHONPATH=tests/support:tests/scenarios $(PY) tests/chaos --minutes $(MINUTES) --workers $(WORKERS) $(if $(SEED),--seed $(SEED)) $(ARGS)

check: .venv/ready-to-develop ## Check format, style, types, imports, house rules, openapi.json and migrations
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) -m pytest -q tests/test_house.py tests/storage/hot/test_moves.py
	@$(PY) -m agentflow.api | .venv/bin/openapi-spec-validator --schema 3.1 -
	@$(PY) -m agentflow.cli.main db drift

bench: .venv/ready-to-develop ## Measure against plain Celery on this machine, and print the table
	@$(PY) -m benchmarks $(ARGS)

clean: ## Remove the virtual environment and all caches (not the data in .agentflow)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

# One virtual environment in two stages; the second includes the first. Made again when pyproject.toml changes.
.venv/ready-to-run: pyproject.toml .ci/venv
	@.ci/venv embedded,ai
	@touch $@

.venv/ready-to-develop: pyproject.toml .ci/venv
	@.ci/venv dev
	@touch .venv/ready-to-run $@
