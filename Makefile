# Two commands are enough: `make demo` lives a whole life, `make test` proves the house.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install dev demo test quick check bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ingot needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/ingot run recipes/quickstart.yaml --out runs/quickstart

# tests are compiled once, also where the machine says otherwise: they start Python often
test quick: export PYTHONDONTWRITEBYTECODE =

test: dev
	$(BIN)/python -m pytest -n auto

quick: dev
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -n auto -m 'not slow and not peers'

check: dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_readme.py

bench: dev
	$(BIN)/python benchmarks/pretrain.py

clean:
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
