# SPDX-License-Identifier: Apache-2.0
"""The plugins, loaded as a worker loads them."""

import logging
import os

from apisix.cli.diagnosis.finding import Findings, ok, problem, warning
from apisix.runner.plugin.registry import Registry
from apisix.runner.settings.table import Settings


def look_at_plugins(settings: Settings) -> Findings:
    """Load them, and say which can't be."""
    logging.getLogger("apisix").addHandler(logging.NullHandler())
    logging.getLogger("apisix").propagate = False  # its log would only say the same once more
    registry = Registry.load(settings.plugins, settings.plugin_modules)
    for found in registry.problems:
        yield problem("plugins", f"{found.file}{f':{found.line}' if found.line else ''}: {found.reason}", found.advice)
    names = ", ".join(plugin_type.name for plugin_type in registry.types)
    yield ok("plugins", f"{len(registry.types)} can be used: {names}")
    for directory in settings.plugins:
        if os.path.isdir(directory) and os.stat(directory).st_mode & 0o002:
            yield warning(
                "plugins", f"{directory} can be written by everybody, and whoever writes there runs code here", f"chmod o-w {directory}"
            )
