# SPDX-License-Identifier: Apache-2.0
"""`import apisix`: the author's names, found when they are asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import apisix

ROOT = Path(apisix.__file__).parent.parent


def test_the_names() -> None:
    """Each name of an author is there."""
    assert ["Plugin", "Reply", "Request", "Response", "__version__"] == apisix.__all__
    assert ["Plugin", "Reply", "Request", "Response"] == [getattr(apisix, name).__name__ for name in apisix.__all__[:-1]]


def test_other_names() -> None:
    """A name that is not there is the usual error."""
    with pytest.raises(AttributeError, match="module 'apisix' has no attribute 'Plugins'"):
        apisix.__getattr__("Plugins")


def test_what_the_names_import() -> None:
    """Neither pydantic, nor asyncio, nor the reading of distributions' metadata stands before a plugin."""
    code = "import apisix, sys; [getattr(apisix, name) for name in apisix.__all__]; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    assert set() == {"pydantic", "asyncio", "importlib.metadata", "apisix.runner.plugin.loading.registry"} & set(modules)
