# Two commands do all the set-up: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
export MLOPS_HOME ?= $(CURDIR)/var
export DAGSTER_HOME ?= $(MLOPS_HOME)/dagster
export PATH := $(CURDIR)/$(BIN):$(PATH)
PYTEST := $(BIN)/python -m pytest
# Two processes, a module's tests in one of them, in the order that conftest.py gives.
TWICE := --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: demo ui serve test test-fast test-all gates kills images benchmarks check format clean browser help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.installed  ## Run the main job: the lake through 30 November 2013
	@$(BIN)/mlops demo $(ARGS)

ui: $(VENV)/.installed  ## The Dagster UI with its daemon, and MLflow, on loopback
	@$(BIN)/mlops ui $(ARGS)

serve: $(VENV)/.installed  ## The promoted model of flight_delays, answering on loopback
	@$(BIN)/mlops serve flight_delays $(ARGS)

test: $(VENV)/.installed browser  ## Checks, unit and flow tests, the UI in a browser
	$(PYTEST) $(TWICE) -m "not year" $(ARGS)

test-fast: $(VENV)/.installed  ## What takes under three minutes
	$(PYTEST) $(TWICE) -m "not year and not slow and not browser" $(ARGS)

test-all: $(VENV)/.installed browser  ## Everything, the whole year included
	$(PYTEST) $(TWICE) $(ARGS)

gates: $(VENV)/.installed  ## Build bad models for real, and print which gate refuses each
	$(BIN)/python -m mlops_assets_tests.integration.mutants $(ARGS)

kills: $(VENV)/.installed  ## Kill the demo at 50 random moments, and look at what is left
	$(BIN)/python -m mlops_assets_tests.integration.kills $(ARGS)

images: $(VENV)/.installed  ## Build the image of a Bento with Debian's buildah, and ask what runs in it
	@{ command -v buildah && command -v debootstrap; } >/dev/null || { [ "$$(id -u)" = 0 ] && \
	  command -v apt-get >/dev/null && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends buildah debootstrap >/dev/null; } || \
	  echo "buildah and debootstrap are not installed: the tests will be listed as not run"
	$(PYTEST) -s mlops_assets_tests/stores/test_images.py $(ARGS)

benchmarks: $(VENV)/.installed  ## Each part beside its rivals and its floor, as one table
	$(BIN)/python -m benchmarks $(ARGS)

check: $(VENV)/.installed  ## Format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## Write the format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

browser:  # Debian's Chromium, where it may be installed; the tests name what they could not run
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  echo "chromium is not installed: the browser tests will be listed as not run"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) 2>/dev/null || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:  ## Remove the local environment: lake, models, runs
	rm -rf $(MLOPS_HOME)
