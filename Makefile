# SPDX-License-Identifier: Apache-2.0
# One word for each thing one does: install dev test lint bench soak docs clean.

VENV ?= .venv
EXTRAS = dev,metrics
python = $(VENV)/bin/python
stamp = $(VENV)/.installed
HOT_PATH_TESTS = tests/test_compiled.py tests/wire tests/http tests/call tests/worker/test_connection_handler.py tests/integration/test_calls.py

# Each is tried by running it: shims of version managers stand on PATH for Pythons that are not there, and Debian's lacks venv
# without the package python3-venv.
PYTHON ?=
candidates = python3.13 python3.12 python3.11 python3 $(HOME)/.pyenv/versions/3.1[123].*/bin/python3
is_usable = -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (4,))'

.PHONY: install setup packages engine build dev test test-modes test-all lint format bench soak docs clean
.DELETE_ON_ERROR:

install: $(stamp)

# What release 0.2 called it.
setup: install

$(python):
	@for python in $(or $(PYTHON),$(candidates)); do \
	    if "$$python" $(is_usable) 2>/dev/null; then \
	        echo "making $(VENV) with $$("$$python" -c 'import platform, sys; print(platform.python_version(), sys.executable)')"; \
	        exec "$$python" -m venv --clear "$(VENV)"; \
	    fi; \
	done; \
	echo "no Python 3.11 or later with the modules venv and ensurepip (Debian: python3-venv) among: $(or $(PYTHON),$(candidates));" \
	    "say which one to use: make install PYTHON=/path/to/python3" >&2; exit 1

# pip has supported dependency groups since 25.1. The packages are installed while the engine is compiled, which needs only the build tools.
build_requirements = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")
$(stamp): pyproject.toml $(python)
	$(python) -c '$(build_requirements)' | $(python) -m pip install --quiet --upgrade 'pip>=25.1' --requirement /dev/stdin
	$(MAKE) --no-print-directory --jobs 2 packages engine
	@touch $@
	$(python) -m apisix --version

packages:
	APISIX_RUNNER_BUILD=never $(python) -m pip install --quiet --no-build-isolation --editable '.[$(EXTRAS)]' --group test

# Without a C compiler, this prints that the pure Python fallback will be used.
engine:
	$(python) setup.py --quiet build_ext --inplace

# Compiles what was edited.
build: export APISIX_RUNNER_BUILD = require
build: install engine
	$(python) -m apisix --version

dev: install
	$(python) -m apisix dev $(ARGS)

# Several tests at a time: most wait for processes. `$(python) -m pytest` alone runs one after the other.
pytest = $(python) -m pytest --numprocesses auto --dist worksteal
# The tests start hundreds of Pythons, and without its byte code each would compile the runner anew.
test test-modes: export PYTHONDONTWRITEBYTECODE =

test: install
	$(pytest) $(ARGS)

# The hot path in both modes, for where it was compiled.
test-modes: build
	$(pytest) $(HOT_PATH_TESTS)
	APISIX_RUNNER_PURE=1 $(pytest) $(HOT_PATH_TESTS)

# `make test-3.12` tests on that Python, in a virtual environment of its own.
test-3.%:
	@for python in $(PYTHON) python3.$* $(HOME)/.pyenv/versions/3.$*.*/bin/python3; do \
	    if "$$python" $(is_usable) 2>/dev/null; then exec $(MAKE) test VENV=.venv-3.$* PYTHON="$$python"; fi; \
	done; echo "Python 3.$* is not installed: not tested"

test-all:
	@for minor in 11 12 13; do $(MAKE) --no-print-directory test-3.$$minor || exit; done

lint: install
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(VENV)/bin/codespell
	$(python) tools/vocabulary.py

format: install
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

bench: install
	$(python) -m bench $(ARGS)

# Faults, restarts, bad input and long runs: some twenty minutes. What they showed stands in docs/internals/reliability.md.
soak: install
	$(python) -m tests.soak faults
	$(python) -m tests.soak take-over
	$(python) -m tests.soak restarts
	$(python) -m tests.soak overload
	$(python) -m tests.fuzz wire
	$(python) -m tests.fuzz socket
	$(python) -m tests.soak endurance

# A test holds that what this writes is up to date.
docs: install
	$(python) -m apisix.cli.settings_docs
	$(python) -m tests.gateway.behaviour_table
	$(python) -m tests.docs.api_reference
	$(python) -m bench.report

clean:
	rm -rf .venv .venv-3.* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find apisix -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
