# make demo | test | check | bench | clean
# Needs only make and Python >= 3.11. Each target sets itself up: .venv in this folder, with the packages of constraints.txt.
# Another interpreter: make test PYTHON=python3.12. Options for pytest: make test PYTEST_ARGS="-x tests/core".

SHELL := /bin/sh
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := runs/demo

# The environment is this folder's own: neither an activated one nor the caller's module path reaches it.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_USER
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench clean setup
.DELETE_ON_ERROR:

demo: $(STAMP)
	rm -rf $(DEMO)
	$(BIN)/gridmarl compare two-stage-dr --run-dir $(DEMO)
	$(BIN)/gridmarl ledger verify $(DEMO)/ledger.bin

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks.throughput

# Leaves the runs of the user alone; only the demo's own goes.
clean:
	rm -rf $(VENV) $(DEMO) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMP)

# A virtual environment carries its own path: in a folder that was moved or copied since, it is made anew.
INSTALLED_IN := $(shell cat $(STAMP) 2>/dev/null)
ifneq ($(INSTALLED_IN),)
ifneq ($(INSTALLED_IN),$(CURDIR))
$(STAMP): moved
endif
endif

.PHONY: moved
moved:
	rm -rf $(VENV)

# The build backend is installed first, from the same pins, so that nothing is fetched outside them.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "gridmarl needs Python >= 3.11, and there is no '$(PYTHON)'. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gridmarl needs Python >= 3.11, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); echo "'$(PYTHON)' could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) from constraints.txt (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,opt,frameworks,parquet,ray,evm,fast]'
	@printf '%s\n' "$(CURDIR)" > $@
