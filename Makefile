PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench notebooks

.venv/package: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/tools: .venv/package
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

demo: .venv/package
	$(BIN)/pyro-bvae train runs/demo --overwrite

test: .venv/tools
	$(BIN)/pytest -n 2

lint: .venv/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/tools
	for script in tests/benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

notebooks: .venv/tools
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb
