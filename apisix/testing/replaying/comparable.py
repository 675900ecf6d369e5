# SPDX-License-Identifier: Apache-2.0
"""
Decide if a replay can be compared with its record, although the record has digests instead of secrets.

Equal secrets have equal digests. So a plugin that compares a key in the request with a key in its configuration finds out the same. A
plugin that verifies a signature, decodes a token, or derives something from a password, refuses a digest. In such a call, a refusal says
nothing about the plugin. The call is left out if

- a plugin that had let the call pass now stops it or fails, and
- the call has a secret that is not in the configuration, as a token is not, or the plugin's configuration has secrets of which none is in
  the call, as a key of signatures is not.
"""

from typing import Final

from apisix.runner.records.format import CallRecord, ConfigurationRecord
from apisix.testing.replaying.differences import digests_in

ADVICE: Final = "the record has digests instead of secrets. Record with `record.redaction: false` in a test environment"


class NotComparable(Exception):
    """A recorded call can't be replayed, or its replay can't be compared with the record. The message says why."""


def check_comparable(before: CallRecord, now: CallRecord, configuration: ConfigurationRecord | None) -> None:
    """Raise NotComparable if the replay was refused, and the reason may be that the record has no secrets. Args: as `differences`."""
    plugins = [] if configuration is None else configuration.plugins
    received = digests_in([before.request, before.response, before.info, None if before.metadata is None else before.metadata.read])
    configured = digests_in(plugins)
    if not received and not configured:
        return
    if before.steps and not now.steps:
        if configured:
            raise NotComparable(f"the configuration of {', '.join(now.plugins)} is refused now, but {ADVICE}")
        return
    refusing = next(
        (
            new.plugin
            for old, new in zip(before.steps, now.steps, strict=False)
            if old.stopped is None and old.error is None and (new.stopped is not None or new.error is not None)
        ),
        None,
    )
    if refusing is None:
        return
    own = digests_in([entry for entry in plugins if entry.name == refusing])
    if received - configured or (own and not own & received):
        raise NotComparable(f"{refusing} stops the call or fails now, but {ADVICE}")
