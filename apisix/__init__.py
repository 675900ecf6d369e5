# SPDX-License-Identifier: Apache-2.0
"""
Write Apache APISIX plugins in Python.

This package exports the API for plugin authors. Its names are imported on first use, because the supervisor imports this package too
and must bind its socket before it needs any plugin.
"""

from typing import TYPE_CHECKING

from apisix import compiled

if TYPE_CHECKING:
    from apisix.runner.http.body.multipart_form import FormFile
    from apisix.runner.http.reply import Reply
    from apisix.runner.http.request import Request
    from apisix.runner.http.response import Response
    from apisix.runner.plugin.plugin import Plugin
    from apisix.runner.state.store import Store

__all__ = ["FormFile", "Plugin", "Reply", "Request", "Response", "Store", "__version__"]

__version__ = "1.0.0.dev0"

compiled.choose()

_homes = {
    "FormFile": "apisix.runner.http.body.multipart_form",
    "Plugin": "apisix.runner.plugin.plugin",
    "Reply": "apisix.runner.http.reply",
    "Request": "apisix.runner.http.request",
    "Response": "apisix.runner.http.response",
    "Store": "apisix.runner.state.store",
}


def __getattr__(name: str) -> object:
    home = _homes.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
