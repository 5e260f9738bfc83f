# Everything starts from a bare checkout: the first target that needs them makes .venv and what
# the tests want. ARGS goes through to the tool, as in `make test ARGS="-k lease -x"`.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON_IN_VENV := .venv/bin/python
# PATH, so that tests and examples find `taskiq` and each other's programs.
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH"
SERVERS := $(RUN) $(PYTHON_IN_VENV) tools/servers.py
ARGS ?=
WORKERS ?= auto
# The tests start hundreds of processes: where Python is told to keep no bytecode, each of them would
# spend three seconds on compiling what it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo demo-redis test workers check format lint types imports architecture wheel bench chaos coverage docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready-dev  ## make .venv with all extras and the tools, from the lock

.venv/.ready-dev: pyproject.toml uv.lock tools/bootstrap.sh
	@sh tools/bootstrap.sh dev

.venv/.ready-demo: pyproject.toml uv.lock tools/bootstrap.sh
	@sh tools/bootstrap.sh demo

demo: .venv/.ready-demo  ## run a real job here, without any server; kill it and run it again
	@$(RUN) $(PYTHON_IN_VENV) -m examples.stdlib_report $(ARGS)

demo-redis: setup  ## the same job on a private Redis with workers; ARGS=--kill-a-worker kills one
	@$(SERVERS) --only redis -- sh -c 'REDIS_URL="$$TASKIQ_FLOW_TEST_REDIS_URL" \
		exec $(PYTHON_IN_VENV) -m examples.stdlib_report.on_redis $(ARGS)'

test: setup  ## run every test beside private Redis, PostgreSQL, RabbitMQ and NATS
	@$(SERVERS) -- sh tools/test.sh $(PYTHON_IN_VENV) $(WORKERS) $(ARGS)

workers: setup  ## of the tests, those with real workers on every broker
	@$(SERVERS) -- $(PYTHON_IN_VENV) -m pytest tests/integration/workers $(ARGS)

check: lint types imports architecture wheel  ## what CI asks besides the tests

format: setup  ## put the code into shape
	@$(RUN) ruff check --fix-only --quiet . ; $(RUN) ruff format .

lint: setup
	$(RUN) ruff format --check .
	$(RUN) ruff check .

types: setup
	$(RUN) pyright

imports: setup
	$(RUN) lint-imports

architecture: setup
	$(RUN) $(PYTHON_IN_VENV) -m pytest -q -p no:cacheprovider tests/architecture --deselect tests/architecture/test_docs_run.py $(ARGS)

wheel: setup
	$(RUN) $(PYTHON_IN_VENV) tools/bare_wheel.py

bench: setup  ## measure against plain Taskiq, and write docs/performance.md
	@$(SERVERS) --only redis,postgres -- $(PYTHON_IN_VENV) -m benchmarks $(ARGS)

chaos: setup  ## the kill tests, long
	@TASKIQ_FLOW_CHAOS=long $(SERVERS) -- $(PYTHON_IN_VENV) -m pytest -m chaos --timeout 3600 $(ARGS)

coverage: setup  ## the tests, with branch coverage
	@$(SERVERS) -- $(PYTHON_IN_VENV) -m pytest -n $(WORKERS) --cov --cov-report term $(ARGS)

docs: setup  ## build the documentation into site/, strictly
	$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --strict

clean:  ## remove everything that was made here
	rm -rf .venv site dist build htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
