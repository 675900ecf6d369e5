# SPDX-License-Identifier: Apache-2.0
"""The names for authors in `apisix`, which are imported when they are first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import apisix

ROOT = Path(apisix.__file__).parent.parent


def test_the_names() -> None:
    """`apisix` has all names for authors."""
    assert apisix.__all__ == ["FormFile", "Plugin", "Reply", "Request", "Response", "Store", "__version__"]
    assert [getattr(apisix, name).__name__ for name in apisix.__all__[:-1]] == [
        "FormFile",
        "Plugin",
        "Reply",
        "Request",
        "Response",
        "Store",
    ]


def test_other_names() -> None:
    """A name that does not exist raises the usual error."""
    with pytest.raises(AttributeError, match="module 'apisix' has no attribute 'Plugins'"):
        apisix.__getattr__("Plugins")


def test_modules_that_are_not_imported() -> None:
    """Importing the names for authors does not import slow modules that plugins may not need."""
    code = "import apisix, sys; [getattr(apisix, name) for name in apisix.__all__]; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    assert {"pydantic", "asyncio", "importlib.metadata", "apisix.runner.plugin.loading.registry"} & set(modules) == set()
