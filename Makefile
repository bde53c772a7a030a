# Shortcuts; README has the same without make.
PYTHON ?= python3
BIN = .venv/bin
EXTRAS = dev,cluster,deepspeed

.PHONY: help test test-fast checks format ci
help:
	@echo "make test (all that this machine can run) | test-fast | checks | format | ci"

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[$(EXTRAS)]'
	touch $@

test: .venv/installed
	$(BIN)/python -m pytest -m 'not gpu'

test-fast: .venv/installed
	$(BIN)/python -m pytest

checks: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ci:
	bash .ci/run
