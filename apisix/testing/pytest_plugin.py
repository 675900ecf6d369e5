# SPDX-License-Identifier: Apache-2.0
"""
The pytest plugin: the fixture `client`, and the option `--apisix-plugins`.

pytest imports this module whenever it starts, if this package is installed. So the runner is imported only when a test uses a fixture.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from apisix.testing.client import Client

_CLIENTS: pytest.StashKey[Callable[[], Client]] = pytest.StashKey()

DIRECTORY = "plugins"
DEBUGGING_TIMEOUT_S = 3600.0
"""The time limit of a call with --pdb, in seconds. It is long because a developer examines the call."""


def pytest_configure(config: pytest.Config) -> None:
    """Check the option when pytest starts, and not in the first test that uses the fixture."""
    plugin_directories(config)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("apisix", "plugins of Apache APISIX").addoption(
        "--apisix-plugins",
        action="append",
        default=[],
        metavar="DIR",
        help="a directory of plugins for the fixture client, in addition to plugins/ in the root directory; may be repeated",
    )


def plugin_directories(config: pytest.Config) -> list[Path]:
    """
    Return the directories of plugins: `plugins/` in the root directory and in the current one, and the directories of the option.

    Raises: pytest.UsageError: a directory of the option does not exist.
    """
    started_in = config.invocation_params.dir
    found = [path for path in (config.rootpath / DIRECTORY, started_in / DIRECTORY) if path.is_dir()]
    named = [started_in / directory for directory in config.getoption("--apisix-plugins")]
    missing = [str(path) for path in named if not path.is_dir()]
    if missing:
        raise pytest.UsageError(f"--apisix-plugins: there is no directory {' and no directory '.join(missing)}")
    return [*dict.fromkeys(found), *named]


@pytest.fixture(scope="session")
def _apisix_clients(pytestconfig: pytest.Config) -> Iterator[Callable[[], Client]]:
    """Return a function that creates a client. Plugins are loaded once for all clients, and all plain tests share an event loop."""
    import asyncio

    from apisix.runner.plugin.loading.registry import Registry
    from apisix.testing.client import DEFAULT_TIMEOUT_S, Client

    _check_coverage()
    timeout_s = DEBUGGING_TIMEOUT_S if pytestconfig.getoption("usepdb", False) else DEFAULT_TIMEOUT_S
    registry = Registry.load(plugin_directories(pytestconfig))
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        make: Callable[[], Client] = partial(Client, registry=registry, plugin_timeout_s=timeout_s, _runner=runner)
        pytestconfig.stash[_CLIENTS] = make
        yield make
    del pytestconfig.stash[_CLIENTS]


def _check_coverage() -> None:
    """Warn if coverage.py would report executed lines of plugins as missed."""
    from apisix.compiled import why_pure

    if not type(sys.gettrace()).__module__.startswith("coverage") or why_pure() is not None:
        return  # coverage.py is not used, or uses `sys.monitoring`, or can recognize greenlets by their Python frames
    from coverage import Coverage

    measuring = Coverage.current()
    if measuring is not None and "greenlet" not in str(measuring.get_option("run:concurrency")):
        warnings.warn(
            "coverage.py is not configured for greenlets, in which plain hooks run, so it reports lines after request.var() as missed. "
            'Write `concurrency = ["greenlet", "thread"]` under [tool.coverage.run] in pyproject.toml',
            stacklevel=2,
        )


def _make_client(request: pytest.FixtureRequest) -> Client:
    # This is not a fixture that depends on another one, because pytest would need as long to resolve it as a call takes.
    make = request.config.stash.get(_CLIENTS, None) or request.getfixturevalue("_apisix_clients")
    made: Client = make()
    return made


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client that sends requests and responses through plugins, without a gateway. See apisix.testing.Client."""
    with _make_client(request) as client:
        yield client


@pytest.fixture
def apisix_client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Same as the fixture `client`, for tests that use a fixture `client` of another package."""
    with _make_client(request) as client:
        yield client
