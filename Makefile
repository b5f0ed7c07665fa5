# Each target does its own set-up. It goes into .venv, and nothing outside the
# checkout changes, but for this: run by root, `make test` installs the servers of
# tests/debian-packages.txt (none is started, no other mail server is replaced), and
# every target python3-venv where it is missing. Run by anybody else, it says what is
# missing, and the tests that need it are skipped with the reason.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
INSTALL := sh tests/install-packages.sh
UNPACK := sh tests/unpack-cyrus.sh
# The tests start the program thousands of times, also where the environment keeps Python
# from writing what it has compiled.
COMPILE := $(BIN)/python -m compileall -q mailflow plugins
# Half of the time a test waits: for a server, a clock, a program. So there are more workers
# than processors.
WORKERS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q -rs

.PHONY: help demo test threats faults lint bench crash fuzz docs clean

help:
	@echo "make demo     the main job, on servers of its own: no root, no network"
	@echo "make test     every test; run by root it installs the real servers first"
	@echo "make threats  those tests alone that docs/security.rst names"
	@echo "make faults   those of the faults in docs/reliability.rst; FAULTS=\"F1 D5\" of these alone"
	@echo "make lint     style, types, import contracts"
	@echo "make bench    speed and memory beside mpop, getmail6, fetchmail and others"
	@echo "make crash    200 random kills and 200 power cuts (the power cuts as root)"
	@echo "make fuzz     octets for every parser, MINUTES=1 for each, the corpus kept"
	@echo "make docs     the documentation, in docs/_build/html"
	@echo "make clean    remove .venv, caches and what was built"

demo: $(VENV)/.demo
	@$(BIN)/mailflow demo

test: $(VENV)/.dev
	@$(INSTALL) tests/debian-packages.txt
	@$(UNPACK) $(VENV)/cyrus
	@$(COMPILE)
	@$(PYTEST) $(ARGS)

threats: $(VENV)/.dev
	@$(INSTALL) tests/debian-packages.txt
	@$(UNPACK) $(VENV)/cyrus
	@$(COMPILE)
	@$(PYTEST) $$($(BIN)/python tests/threats.py) $(ARGS)

faults: $(VENV)/.dev
	@$(INSTALL) tests/debian-packages.txt
	@$(UNPACK) $(VENV)/cyrus
	@$(COMPILE)
	@$(PYTEST) $$($(BIN)/python tests/faults.py $(FAULTS)) $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev
	@$(INSTALL) bench/debian-packages.txt
	@$(BIN)/python -m bench $(ARGS)

crash: $(VENV)/.dev
	@$(INSTALL) tests/debian-packages.txt
	@$(UNPACK) $(VENV)/cyrus
	@MAILFLOW_KILLS=$${MAILFLOW_KILLS:-200} MAILFLOW_CUTS=$${MAILFLOW_CUTS:-200} \
	  $(PYTEST) tests/crash --timeout 7200 $(ARGS)

fuzz: $(VENV)/.dev
	@$(PIP) install -e '.[fuzz]'
	@for target in $$($(BIN)/python -m fuzz); do \
	  $(BIN)/python -m fuzz $$target --minutes $${MINUTES:-1} || exit; done

docs: $(VENV)/.dev
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) docs/_build dist build .mypy_cache .pytest_cache .ruff_cache \
	  .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say what .venv holds; a change of pyproject.toml installs anew.

$(BIN)/python:
	@sh tests/make-venv.sh $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing mailflow into $(VENV)" >&2
	@$(PIP) install -e '.[testbed]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing mailflow and the tools of its tests into $(VENV)" >&2
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.demo
