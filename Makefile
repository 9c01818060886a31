# Two commands do all the set-up: `make demo` runs the main job, `make test` the tests.
# Both make their own virtual environment in .venv, from the pinned versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MARK := $(VENV)/.installed

.PHONY: install demo test check docs bench clean help

help:  ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(MARK)  ## make the virtual environment

# torch comes first and pinned: left to the others' ranges, pip may take a build with CUDA.
$(MARK): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "metaglot needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	@touch $(MARK)

demo: $(MARK)  ## learn from 20 languages how to learn 6 others, on real data, offline
	$(BIN)/metaglot demo

test: $(MARK)  ## the whole test suite
	$(BIN)/python -m pytest

check: $(MARK)  ## linters, types, documentation
	$(BIN)/ruff check src tests benchmarks tools docs_src
	$(BIN)/ruff format --check src tests benchmarks tools docs_src
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: $(MARK)  ## serve the documentation at localhost:8000
	$(BIN)/mkdocs serve

bench: $(MARK)  ## the benchmarks that need no data of one's own, with their result files
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/encode.py --json benchmarks/results/encode.json
	$(BIN)/python benchmarks/adapt.py --json benchmarks/results/adapt.json
	$(BIN)/metaglot demo --out demo-output --draws 10
	cp demo-output/results.json benchmarks/results/demo.json
	cp demo-output/results.png docs/assets/results.png
	$(BIN)/python benchmarks/demo_table.py

clean:  ## remove the environment and everything made
	rm -rf $(VENV) demo-output site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
