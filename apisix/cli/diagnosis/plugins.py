# SPDX-License-Identifier: Apache-2.0
"""Examine the plugins, which are loaded as in a worker."""

import logging
import os

from apisix.cli.diagnosis.result import Results, ok, problem, warning
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.settings.table import Settings


def examine_plugins(settings: Settings) -> Results:
    """Load the plugins, and yield a problem for each one that can't be loaded."""
    logging.getLogger("apisix").addHandler(logging.NullHandler())
    logging.getLogger("apisix").propagate = False  # the problems are printed as results, so they must not be logged too
    registry = Registry.load(settings.plugins, settings.plugin_modules)
    for found in registry.problems:
        yield problem("plugins", f"{found.file}{f':{found.line}' if found.line else ''}: {found.reason}", found.advice)
    names = ", ".join(plugin_type.name for plugin_type in registry.types)
    yield ok("plugins", f"{len(registry.types)} can be used: {names}")
    for directory in settings.plugins:
        if os.path.isdir(directory) and os.stat(directory).st_mode & 0o002:
            yield warning(
                "plugins",
                f"every user can write to {directory}, and the runner executes code in it",
                f"chmod o-w {directory}",
            )
