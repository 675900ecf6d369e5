# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets: those whose rule has a comment that begins with ##.

VENV ?= .venv
EXTRAS = dev,metrics,tracing,tracing-grpc
python = $(VENV)/bin/python
HOT_PATH_TESTS = tests/test_compiled.py tests/wire tests/http tests/call tests/worker/test_connection_handler.py tests/integration/test_calls.py
FUZZ_TESTS = tests/integration/test_fuzz.py tests/integration/test_bad_input.py
MINORS = 11 12 13 14

# Each is tried by running it, because version managers put shims on PATH for Pythons that are not installed, and Debian's Python lacks
# venv unless the package python3-venv is installed.
PYTHON ?=
candidates = python3.14 python3.13 python3.12 python3.11 python3 $(HOME)/.pyenv/versions/3.1[1234].*/bin/python3
is_usable = -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (4,))'

.PHONY: help install setup build dev test test-browser pictures test-all test-wheel verify-deploy verify-image verify-author coverage mutants sanitize wheel release-check sbom lint types format bench soak docs site site-pictures clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z][a-z0-9.%-]*\):.*## /\1: /p' Makefile | awk -F ': ' '{ printf "make %-13s %s\n", $$1, $$2 }'

install: ## create .venv with all that development needs, and compile the engine if there is a C compiler
	@$(MAKE) --silent --no-print-directory --jobs 2 $(VENV)/.packages $(VENV)/.engine
	@$(python) -m apisix --version

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

# pip has supported dependency groups since 25.1.
build_requirements = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")
$(VENV)/.build-tools: pyproject.toml $(python)
	@$(python) -c '$(build_requirements)' | $(python) -m pip install --quiet --upgrade 'pip>=25.1' --requirement /dev/stdin
	@touch $@

# The engine is compiled while pip installs the packages, and not by pip, which hides the output of a build.
$(VENV)/.packages: pyproject.toml $(VENV)/.build-tools
	@echo 'installing packages'
	APISIX_RUNNER_BUILD=never $(python) -m pip install --quiet --no-build-isolation --editable '.[$(EXTRAS)]' --group test
	@touch $@

# Only once: later, `make build` decides when.
$(VENV)/.engine: | $(VENV)/.build-tools
	@echo 'compiling the engine'
	$(compile)
	@touch $@

compile = $(python) setup.py --quiet build_ext --inplace

build: export APISIX_RUNNER_BUILD = require
build: $(VENV)/.packages ## compile what was edited of the engine
	$(compile)
	@touch $(VENV)/.engine
	@$(python) -m apisix --version

dev: install ## start the development gateway, an upstream and the runner
	$(python) -m apisix dev $(ARGS)

# Several tests at a time: most wait for processes. `$(python) -m pytest` alone runs one after the other.
pytest = $(python) -m pytest --numprocesses auto --dist worksteal
is_compiled = -c 'import sys; from apisix.compiled import why_pure; sys.exit(why_pure() is not None)'
# The tests start hundreds of Python processes, and without its byte code each would compile the Python sources again.
test coverage sanitize: export PYTHONDONTWRITEBYTECODE =

test: install ## test everything with the engine that is installed, and the hot path with the other one
	$(pytest) $(ARGS)
ifndef ARGS
	@if $(python) $(is_compiled); then \
	    echo 'The tests of the hot path again, in pure Python:'; \
	    APISIX_RUNNER_PURE=1 $(pytest) $(HOT_PATH_TESTS); \
	else \
	    echo "These tests ran in pure Python, and the compiled engine is not available: $$($(python) -m apisix --version)"; \
	fi
endif

# Debian's package is installed if that is possible. Without a browser the tests are skipped, with the reason.
browsers = chromium chromium-browser google-chrome google-chrome-stable
test-browser: install ## test the inspector's page and the website in Chromium
	$(python) -m pip install --quiet --group browser --group site
	@for name in $(browsers); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get install --quiet --quiet --yes chromium || { apt-get update --quiet --quiet && apt-get install --quiet --quiet --yes chromium; }; \
	else \
	    echo 'no browser is in PATH ($(browsers)): install one, for example with: sudo apt-get install chromium' >&2; exit 1; \
	fi
	$(python) -m pytest -rs $(or $(ARGS),tests/browser)

# The last two are of a clone of the last commit, in which somebody tries the inspector.
pictures: ## write the screenshots of the inspector in the documentation
	PICTURES=docs/images $(MAKE) test-browser \
	    ARGS='tests/browser/test_layout.py -k "request-1280-light or failure-1280-dark or request-375-dark or routes-1280-light"'
	$(python) -m tests.browser.walk --pictures docs/images

# A copy of the checkout is tested, so that its own extension modules stay. Errors in memory that Python manages are only found if malloc
# provides it. Redzones on the stack are off, because greenlets copy the stack.
SANITIZED = build/sanitized
sanitizers = -fsanitize=address,undefined
sanitize: export CFLAGS = -O1 -g1 -w -fno-omit-frame-pointer $(sanitizers) -fno-sanitize-recover=undefined --param=asan-stack=0
sanitize: export LDFLAGS = $(sanitizers)
sanitize: export APISIX_RUNNER_BUILD = require
sanitize: $(VENV)/.packages ## test the compiled engine with AddressSanitizer and UndefinedBehaviorSanitizer (gcc, Linux)
	rm -rf $(SANITIZED)/apisix $(SANITIZED)/tests
	mkdir -p $(SANITIZED)
	tar --create --exclude='./.venv*' --exclude=./.git --exclude=./build --exclude='*.so' --exclude=__pycache__ . | tar --extract --directory $(SANITIZED)
	cd $(SANITIZED) && $(abspath $(python)) setup.py --quiet build_ext --inplace
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 $(abspath $(python)) -m pytest --numprocesses auto --dist worksteal \
	    $(or $(ARGS),$(HOT_PATH_TESTS) $(FUZZ_TESTS))

# A wheel contains the engine for one version of Python. It is not built for the stable ABI (abi3): Cython supports that in part only, and
# the hot path would call functions where it now reads fields.
wheel: export APISIX_RUNNER_BUILD = require
wheel: $(VENV)/.packages ## build a source distribution and from it a wheel into dist/, and test that in an environment of its own
	rm -rf dist build/smoke
	$(python) -c 'from setuptools.build_meta import build_sdist; build_sdist("dist")' >/dev/null
	$(python) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	$(python) -m venv build/smoke
	build/smoke/bin/python -m pip install --quiet dist/*.whl
	cd build/smoke && bin/python $(CURDIR)/tests/smoke.py

# From a copy of the tests: beside the sources, they would import those.
test-wheel: wheel ## run the tests of the hot path against the wheel
	build/smoke/bin/python -m pip install --quiet 'pip>=25.1'
	build/smoke/bin/python -m pip install --quiet --group test "$$(echo dist/*.whl)[$(EXTRAS)]"
	cp -r tests pyproject.toml build/smoke
	cd build/smoke && bin/python -m pytest --numprocesses auto --dist worksteal $(filter-out tests/test_compiled.py,$(HOT_PATH_TESTS))

verify-deploy: install ## check the files of deploy/, also with hadolint and the schemas of Kubernetes
	$(python) -m pip install --quiet --group deploy
	$(python) -m pytest -rs $(or $(ARGS),tests/deploy)

verify-image: install ## build the image in directories made by debootstrap, and check it (root, and the registries of Debian and PyPI)
	$(python) -m tests.deploy.image $(ARGS)

verify-author: wheel ## create, test and run a plugin and a project with the wheel only, in fresh environments, and time each step
	$(python) -m tests.deploy.author

# The linters of distributions have an environment of their own, because they depend on other versions of libraries than the tests.
build/release/.packages: pyproject.toml $(python)
	$(python) -m venv build/release
	build/release/bin/python -m pip install --quiet 'pip>=25.1'
	build/release/bin/python -m pip install --quiet --group release
	@touch $@

# In each environment, a plugin is created and tested with the installed kit.
release-check: wheel build/release/.packages ## check the source distribution and the wheel as for a release (metadata, content, installations, sizes)
	build/release/bin/twine check --strict dist/*
	build/release/bin/check-wheel-contents dist/*.whl
	build/release/bin/pyroma --skip-tests=SDist,BusFactor --min=10 dist/*.tar.gz
	build/release/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	build/release/bin/zizmor --offline --no-progress .github
	cd build/smoke && $(check_kit)
	rm -rf build/smoke-pure
	$(python) -m venv build/smoke-pure
	CC=/bin/false APISIX_RUNNER_BUILD=auto build/smoke-pure/bin/python -m pip install --quiet --no-cache-dir dist/*.tar.gz
	cd build/smoke-pure && bin/python $(CURDIR)/tests/smoke.py pure && $(check_kit)
	$(MAKE) --no-print-directory sbom
	@ls -l dist && du -sh build/smoke/lib/python*/site-packages/apisix build/smoke-pure/lib/python*/site-packages/apisix

# The environment has no pip, which would be listed. The version in pyproject.toml is dynamic, which the program does not support.
sbom: build/release/.packages ## write dist/sbom.cdx.json, the components of an installation of the wheel in dist/ (CycloneDX)
	rm -rf build/sbom
	$(python) -m venv --without-pip build/sbom
	$(python) -m pip --python build/sbom/bin/python install --quiet dist/*.whl
	version=$$(build/sbom/bin/apisix-runner --version | sed 's/.*version \([^ ]*\).*/\1/') && \
	    sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > build/sbom/pyproject.toml
	build/release/bin/cyclonedx-py environment --pyproject build/sbom/pyproject.toml --mc-type application --output-reproducible \
	    --output-file dist/sbom.cdx.json build/sbom/bin/python

check_kit = bin/python -m pip install --quiet 'apisix-python-plugin-runner[dev]' && rm -rf authored && mkdir authored && cd authored && echo '[pytest]' > pytest.ini && \
    ../bin/apisix-runner new hello && ../bin/python -m pytest -p no:cacheprovider . && ../bin/apisix-runner check

# Of the sources: compiled modules cannot be measured.
coverage: export APISIX_RUNNER_PURE = 1
coverage: install ## run all tests in pure Python, list the lines and branches that they miss, and fail below the limit
	mkdir -p build/coverage
	$(pytest) --cov --cov-report=term-missing:skip-covered $(ARGS)

mutants: install ## change the sources at 200 random places, and list the changes that no test notices (hours; ARGS=--help)
	$(python) -m pip install --quiet --group mutants
	nice $(python) -m tests.mutants $(ARGS)

# `make test-3.12` tests on that Python, in a virtual environment of its own.
test-3.%:
	@for python in $(PYTHON) python3.$* $(HOME)/.pyenv/versions/3.$*.*/bin/python3; do \
	    if "$$python" $(is_usable) 2>/dev/null; then exec $(MAKE) test VENV=.venv-3.$* PYTHON="$$python"; fi; \
	done; echo "Python 3.$* is not installed"; exit 1

test-all: ## test on each Python that is installed, from 3.11 to 3.14
	@tested=; for minor in $(MINORS); do \
	    for python in python3.$$minor $(HOME)/.pyenv/versions/3.$$minor.*/bin/python3; do \
	        "$$python" $(is_usable) 2>/dev/null || continue; \
	        $(MAKE) --no-print-directory test-3.$$minor PYTHON="$$python" || exit; tested="$$tested 3.$$minor"; break; \
	    done; \
	done; test -n "$$tested" || { echo 'nothing was tested: no Python from 3.11 to 3.14 is installed' >&2; exit 1; }; \
	echo "tested on Python$$tested"

lint: $(VENV)/.packages ## check style, types, spelling and vocabulary
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(VENV)/bin/codespell
	$(python) tools/vocabulary.py

# basedpyright is a fork of pyright that pip installs with all that it needs.
types: $(VENV)/.packages ## check the types of the examples and of new projects with the rules of pyright
	$(python) -m pip install --quiet --group types
	$(python) -m basedpyright --pythonpath $(python)
	$(python) -m pytest -rs tests/cli/test_new_project.py -k basedpyright

format: $(VENV)/.packages ## format the sources
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

bench: install ## measure the runner; ARGS=... are those of python -m bench
	$(python) -m bench $(ARGS)

# Faults, restarts, bad input and long runs: some twenty minutes. The results are in docs/internals/reliability.md.
soak: install ## inject faults and send load for some twenty minutes
	$(python) -m tests.soak faults
	$(python) -m tests.soak take-over
	$(python) -m tests.soak restarts
	$(python) -m tests.soak metadata
	$(python) -m tests.soak increments
	$(python) -m tests.soak overload
	$(python) -m tests.fuzz wire
	$(python) -m tests.fuzz socket
	$(python) -m tests.fuzz differential
	$(python) -m tests.soak endurance

# A test checks that the generated pages are up to date.
docs: install ## write the generated pages
	$(python) -m tests.docs.settings_reference
	$(python) -m tests.gateway.behaviour_table
	$(python) -m tests.docs.api_reference
	$(python) -m tests.docs.public_api
	$(python) -m tests.docs.records_reference
	$(python) -m tests.docs.cookbook
	$(python) -m bench.report

site: $(VENV)/.packages ## build the website of the documentation into build/site/html; warnings are errors
	$(python) -m pip install --quiet --group site
	$(python) -m tools.website

site-pictures: ## write screenshots of the website into build/site/pictures
	PICTURES=build/site/pictures $(MAKE) test-browser ARGS='tests/browser/test_website.py -k test_layout'

clean: ## delete what the other targets make
	rm -rf .venv .venv-3.* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find apisix -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
