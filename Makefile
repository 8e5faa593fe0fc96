# Everything runs in $(VENV), made on first use and brought up to date when pyproject.toml or constraints.txt change.
#   make demo                     the product in one command
#   make test VENV=/path/to/venv  another environment
#   make test ARGS="-k conv -x"   arguments for pytest
#   make fuzz SECONDS=600 SEED=1  how long, and where to start
#   make test EXTRAS=dev,torch    also the tests that need torch, which are skipped without
#   make test CONSTRAINTS=        the newest versions that pyproject.toml allows, as `pip install openbpu` takes them

VENV   ?= .venv
PYTHON ?= python3
EXTRAS ?= dev
ARGS   ?=
JOBS   ?= auto
SECONDS ?= 300
SEED    ?=
CONSTRAINTS ?= constraints.txt

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
RUN := $(VENV)/.openbpu-run
DEV := $(VENV)/.openbpu-$(EXTRAS)

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo install test test-all lint format fuzz mutants bench docs clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(RUN)  ## compile and run the model that ships with openbpu
	$(BIN)/python examples/demo.py

install: $(DEV)  ## what the targets below need
	@

test: $(DEV)  ## the tests, on every core (JOBS=0: in one process)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-all: $(DEV)  ## the tests, also the slow ones
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow or not slow" $(ARGS)

mutants:  ## put 200 faults into the sources, one at a time: which does no test notice?
	$(MAKE) --no-print-directory EXTRAS=dev,mutants install
	PYTHONPATH=tests $(BIN)/python -m mutants $(ARGS)

lint: $(DEV)  ## formatting, lint rules, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)  ## format the sources and apply the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(DEV)  ## damaged files and models, random networks: SECONDS=600 SEED=1 (docs/fuzzing.md)
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) $(addprefix --seed ,$(SEED)) $(ARGS)

bench: $(DEV)  ## time inference and compilation
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/timing.py

docs: $(DEV)  ## regenerate the generated pages of docs/
	$(BIN)/python docs/generate.py

clean:  ## remove the environment and every cache
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $(RUN) $@
