# Every target does its own set-up: the virtual environment is made once, and again when what it depends on changes.
PYTHON ?= $(shell command -v python3.11 || echo python3)  # 3.11 is what is tested
BENCH_SCALE ?= 1
JOBS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2))))  # test processes at once: they wait as much as they work
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-all ui bench screenshots lint format constraints clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: $(READY) ## the whole pipeline on a simulated market, offline
	@$(BIN)/alphapivot demo

test: $(READY) ## all tests but the long matrices, some 7 minutes on 2 cores
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow"

test-all: $(READY) ## every test
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

ui: $(READY) ## Prefect's server and our deployments; prints the address; CONFIG=FILE for another config.ini
	@$(BIN)/alphapivot ui $(if $(CONFIG),--config $(CONFIG))

bench: $(READY) ## ours against its yardsticks; BENCH_SCALE=0.1 for a quick look; writes build/bench.json
	@BENCH_SCALE=$(BENCH_SCALE) $(BIN)/python -m bench

screenshots: $(READY) ## pictures of the UI for README and docs, taken anew in a real browser
	@SCREENSHOTS=docs/img $(BIN)/python -m pytest -q tests/browser

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## as ruff formats and mends
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

constraints: ## newest versions that pyproject.toml allows, tried out in a fresh environment, into constraints.txt
	@$(PYTHON) -m venv --clear build/constraints
	@build/constraints/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@build/constraints/bin/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@echo "constraints.txt: $$(wc -l < constraints.txt) versions; now make test"

clean: ## what was built; the database under ALPHAPIVOT_HOME stays
	@rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AlphaPivot needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.11" >&2; exit 1; }
	@echo "Setting up .venv (once; a minute or two) ..."
	@$(PYTHON) -m venv .venv || { echo "on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@
