# Every target does its own set-up: the virtual environment is created once, and again when its dependencies change.
BENCH_SCALE ?= 1
JOBS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2))))  # test processes in parallel: they wait half of the time
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder
READY := .venv/.ready
# installed without bytecode: where processes may not write it, each of hundreds compiles its imports again
unexport PYTHONDONTWRITEBYTECODE
DEV := .venv/.ready-dev

# The environment is created again if its Python is gone or differs from PYTHON (make PYTHON=python3.12); if PYTHON does
# not run, a working environment is left alone.
NAMED := $(PYTHON)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13; do $$p -c '' 2>/dev/null && echo $$p && exit; done; echo python3)
ifneq ($(NAMED),)
WANTED := $(shell $(NAMED) -c 'import platform, sys; print(platform.python_version(), sys.base_prefix)' 2>/dev/null)
$(if $(WANTED),,$(error PYTHON=$(NAMED) does not run here: use another, or on Debian apt-get install python3 python3-venv))
OTHER := $(shell [ "$(WANTED)" = "$$(cat $(READY) 2>/dev/null)" ] || echo FORCE)
endif
IGNORED := $(shell [ ! -e $(READY) ] || $(BIN)/python -c '' 2>/dev/null || rm -f $(READY) $(DEV))

.DEFAULT_GOAL := help
.PHONY: help demo test test-share test-times test-all test-on mutants soak ui bench screenshots docs lint format constraints clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: $(READY) ## run the whole pipeline on a simulated market, offline
	@$(BIN)/alphapivot demo

test: $(DEV) ## run the tests that take seconds at most and a witness of each part, 5 minutes on 2 cores
	@$(PYTEST) -m "not slow and not long"

test-share: $(DEV) ## run some of the long tests, those of the day SEED=DATE; SECONDS=600 for as many as take that long
	@$(PYTEST) -m "long and not slow" --share $(or $(SECONDS),1200) --seed "$(SEED)"

test-times: $(DEV) ## run all tests except the long matrices, about an hour, and write down which are long
	@$(PYTEST) -m "not slow" --times tests/times.txt

test-all: $(DEV) ## run every test
	@$(PYTEST)

test-on: $(DEV) ## run the tests of make test at another time, DATE="2026-11-27 19:00" (UTC); TESTS=tests/feeds for some
	@date -u -d "$(or $(DATE),none)" >/dev/null 2>&1 || { echo 'when? make test-on DATE="2026-11-27 19:00"' >&2; exit 1; }
	@command -v cc >/dev/null || { echo "no C compiler here: on Debian, apt-get install gcc libc6-dev" >&2; exit 1; }
	@clock=$$(mktemp -d) && chmod 711 "$$clock" && trap 'rm -r "$$clock"' EXIT && \
	cc -shared -fPIC -o "$$clock/clock.so" tests/another_clock.c -ldl && chmod 644 "$$clock/clock.so" && \
	CLOCK_SHIFT=$$(( $$(date -u -d "$(DATE)" +%s) - $$(date +%s) )) LD_PRELOAD="$$clock/clock.so" \
	  $(PYTEST) -m "not slow and not long" $(TESTS)

mutants: $(DEV) ## break some forty lines, one at a time, and see each noticed by a fast test
	@$(BIN)/python -m pytest -q -n $(JOBS) -m slow tests/test_mutants.py

soak: $(DEV) ## trade a simulated year through the real commands with kills, faults and operators; BROKER=ib DAYS=5
	@SOAK_DAYS=$(or $(DAYS),250) SOAK_BROKER=$(or $(BROKER),alpaca) SOAK_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -q -s -m slow tests/test_soak.py

ui: $(READY) ## run the Prefect server with our deployments and print its address; CONFIG=FILE for another config
	@$(BIN)/alphapivot ui $(if $(CONFIG),--config $(CONFIG))

bench: $(DEV) ## measure against the yardsticks; BENCH_SCALE=0.1 for a quick look; writes build/bench.json
	@BENCH_SCALE=$(BENCH_SCALE) $(BIN)/python -m bench

screenshots: $(DEV) ## retake the pictures of the UI and the desk for README and docs in a real browser
	@SCREENSHOTS=docs/img $(BIN)/python -m pytest -q tests/browser tests/desk/test_demo_page.py

docs: $(DEV) ## build docs/ as a site in build/docs; fails on a broken link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "open build/docs/index.html"

lint: $(DEV) ## run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(DEV) ## format the code and apply ruff's fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

constraints: ## pin the newest versions that work on every supported Python in constraints.txt
	@$(PYTHON) -m venv --clear build/constraints
	@build/constraints/bin/python -m pip install --quiet --disable-pip-version-check uv
	@build/constraints/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --fork-strategy fewest --no-header --no-annotate --strip-extras --quiet --output-file constraints.txt
	@echo "constraints.txt: $$(wc -l < constraints.txt) versions; now make test"

clean: ## delete everything built; the database under ALPHAPIVOT_HOME stays
	@rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt install.py $(OTHER)
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: on Debian, apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) install.py

# dependencies of tests and linters, added by the environment's own Python
$(DEV): $(READY) $(wildcard alone.txt)
	@$(BIN)/python install.py dev

.PHONY: FORCE
FORCE:
