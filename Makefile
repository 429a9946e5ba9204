# Every target works alone, from a fresh clone. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
TASK ?= lift
BIN := $(VENV)/bin
STAMP := $(VENV)/.equidiff-installed
EXTRAS := train,sim,robot,ur,realsense,dev
NEEDS := pyproject.toml requirements/constraints.txt $(wildcard requirements/stubs/*/pyproject.toml)
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test lint type format docs clean

help:
	@echo "make setup          install everything into $(VENV) (no compiler needed)"
	@echo "make demo           demonstrations, four policies, comparison, report (TASK=lift|stack|square|...)"
	@echo "make test           all tests"
	@echo "make lint | type    ruff | mypy"
	@echo "make format         let ruff rewrite the code"
	@echo "make docs           build the documentation into site/"

setup: $(STAMP)
	@sh scripts/rendering_packages.sh

$(STAMP): $(NEEDS)
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] < (3, 13); sys.exit(0 if ok else "equidiff needs Python 3.11 or 3.12, $(PYTHON) is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/python || sh scripts/make_venv.sh $(PYTHON) $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python ./requirements/stubs/* -e '.[$(EXTRAS)]' -c requirements/constraints.txt
	@touch $(STAMP)

demo: setup
	$(BIN)/python scripts/demo.py $(TASK) $(ARGS)

# ARGS are pytest's: ARGS="tests/sim -n 0"
test: setup
	$(BIN)/python scripts/run_tests.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python './requirements/stubs/'* -e '.[$(EXTRAS),docs]' -c requirements/constraints.txt
	$(BIN)/mkdocs build --strict

clean:
	rm -rf outputs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
