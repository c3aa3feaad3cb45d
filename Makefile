# `make demo` and `make test` do all the set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: setup demo test test-fast servers lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The demo needs no test tools: its own stamp keeps the first start short.
$(VENV)/.runtime: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a minute or so, once"
	@test -e $(STAMP) || $(BIN)/python -m pip install --no-compile --quiet --editable .
	@touch $@

demo: $(VENV)/.runtime  ## a simulated cluster and generated traffic; the page is on http://127.0.0.1:8080/ until Ctrl-C
	@$(BIN)/headstart run --demo

servers: $(STAMP)  ## builds Prometheus, Kubernetes and Helm for the tests once, where Go is installed
	@if command -v go >/dev/null; then $(BIN)/python -m tests.servers build; \
	else echo "no Go here: tests on real servers are skipped unless the programs are on PATH"; fi

test: $(STAMP) servers  ## everything, on real servers where they can be had
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-fast: $(STAMP)  ## everything that needs no servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not servers"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## the figures of the benchmarks folder, on HEADSTART_TRACES or on generated samples
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info
