# SPDX-License-Identifier: Apache-2.0
"""Examine the shared store of plugins if it is in Redis: if the setting is allowed, and if Redis replies."""

import time

from apisix.cli.diagnosis.result import Results, ok, problem
from apisix.runner.errors import SettingsError, StoreError
from apisix.runner.settings.table import Settings
from apisix.runner.worker.shared_store import check_store, connect

_ABSENT = b"\0doctor"
"""A key that no plugin can use."""


def examine_state(settings: Settings) -> Results:
    """Read an entry that does not exist. The results do not contain the URL, because it may be secret."""
    if settings.state_url is None:
        return
    try:
        check_store(settings)
    except SettingsError as error:
        yield problem("state", str(error), "Correct the setting, because the runner does not start with it")
        return
    backend = connect(settings)
    began_s = time.monotonic()
    try:
        backend.get([_ABSENT])
    except StoreError as error:
        yield problem("state", str(error), "Start Redis, or correct state.url. Plugins that use the store without a fallback refuse calls")
    else:
        yield ok("state", f"Redis replied within {(time.monotonic() - began_s) * 1000:.0f} ms")
    finally:
        backend.close()
