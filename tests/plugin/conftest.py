# SPDX-License-Identifier: Apache-2.0
"""A directory of plugin files, and registries made of it."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from apisix.runner.plugin.loading.registry import Registry

Load = Callable[..., Registry]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write files into a directory of plugins and load it: `load(say="class Say(Plugin): ...")`, with the usual imports at the top."""

    def write_and_load(*, builtins: bool = False, **texts: str) -> Registry:
        for stem, text in texts.items():
            (tmp_path / f"{stem}.py").write_text(HEAD + dedent(text))
        return Registry.load([tmp_path], builtins=builtins, entry_points=False)

    return write_and_load


HEAD = "from apisix import Plugin, Reply; from apisix.runner.plugin.base import Base; from apisix.runner.plugin.core import PluginBase\n"
