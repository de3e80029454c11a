# Two commands do all the set-up on a machine with Python 3.11 or later: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint coverage bench slow clean

help: ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@

demo: $(STAMP) ## run the main job on the embedded engine
	$(BIN)/netra-chdb demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n 3

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(STAMP) ## check that what guards reads is covered, every branch of it
	$(BIN)/coverage run -m pytest tests/engine tests/resilience tests/dialect/test_hosts.py \
		tests/scope tests/answers tests/test_mode.py tests/test_access_async.py
	$(BIN)/coverage report

bench: $(STAMP) ## measure against the peers, in one run
	$(BIN)/python -m tests.bench

slow: $(STAMP) ## run the long tests
	$(BIN)/python -m pytest -m slow --timeout 3600

clean: ## remove what the other commands made
	rm -rf $(VENV) dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
