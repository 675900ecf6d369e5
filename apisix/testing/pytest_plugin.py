# SPDX-License-Identifier: Apache-2.0
"""
The pytest plugin: the fixture `client`, and the option `--apisix-plugins`.

pytest loads this module at each start, wherever this package is installed. So nothing heavy is imported before a test uses a fixture.
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
"""How long a call may wait when the test is run with --pdb, in seconds: a person looks at it."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a wrong option at once, and not in the first test that uses the fixture."""
    plugin_directories(config)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("apisix", "plugins of Apache APISIX").addoption(
        "--apisix-plugins",
        action="append",
        default=[],
        metavar="DIR",
        help="a directory of plugins for the fixture client, beside plugins/ under the root directory; may stand several times",
    )


def plugin_directories(config: pytest.Config) -> list[Path]:
    """
    Return where the plugins are: `plugins/` under the root directory or where pytest was started, and those of the option.

    Raises: pytest.UsageError: the option names what is no directory.
    """
    started_in = config.invocation_params.dir
    found = [path for path in (config.rootpath / DIRECTORY, started_in / DIRECTORY) if path.is_dir()]
    named = [started_in / directory for directory in config.getoption("--apisix-plugins")]
    missing = [str(path) for path in named if not path.is_dir()]
    if missing:
        raise pytest.UsageError(f"--apisix-plugins: there is no directory {' and no '.join(missing)}")
    return [*dict.fromkeys(found), *named]


@pytest.fixture(scope="session")
def _apisix_clients(pytestconfig: pytest.Config) -> Iterator[Callable[[], Client]]:
    """Makes clients. The plugins that tests may name are loaded once for all of them, and all plain tests share a loop."""
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
    """Warn if coverage.py would count lines of plugins as missed that have run."""
    from apisix.compiled import why_pure

    if not type(sys.gettrace()).__module__.startswith("coverage") or why_pure() is not None:
        return  # nobody measures, or with `sys.monitoring`, or there are Python frames by which greenlets are told apart
    from coverage import Coverage

    measuring = Coverage.current()
    if measuring is not None and "greenlet" not in str(measuring.get_option("run:concurrency")):
        warnings.warn(
            "coverage.py does not measure greenlets, in which plain hooks run: lines after request.var() would count as missed. "
            'Write `concurrency = ["greenlet", "thread"]` under [tool.coverage.run] in pyproject.toml',
            stacklevel=2,
        )


def _make_client(request: pytest.FixtureRequest) -> Client:
    # Not a fixture that asks for another: resolving one costs as much as half a call.
    make = request.config.stash.get(_CLIENTS, None) or request.getfixturevalue("_apisix_clients")
    made: Client = make()
    return made


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client that sends requests and responses through plugins, without any gateway. See apisix.testing.Client."""
    with _make_client(request) as client:
        yield client


@pytest.fixture
def apisix_client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """The fixture `client` by another name, for those who have a `client` of another package."""
    with _make_client(request) as client:
        yield client
