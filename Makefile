# Shortcuts; README has the same without make.
PYTHON ?= python3
BIN = .venv/bin
EXTRAS = dev,cluster,deepspeed,tune

.PHONY: help test test-fast checks format docs ci
help:
	@echo "make test (all that this machine can run) | test-fast | checks | format | docs | ci"

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[$(EXTRAS)]'
	touch $@

test: .venv/installed
	$(BIN)/python -m pytest -n 3 -m 'not gpu'

test-fast: .venv/installed
	$(BIN)/python -m pytest

checks: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed
	$(BIN)/pip install --quiet -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

ci:
	bash .ci/run
