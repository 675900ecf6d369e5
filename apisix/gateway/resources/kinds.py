# SPDX-License-Identifier: Apache-2.0
"""The kinds of definitions in APISIX: their names in the admin API, and what it does not allow for each of them."""

from dataclasses import dataclass, field
from typing import Final

from apisix.gateway.phases.quirks import EARLIEST, Version

NO_POST: Final = frozenset({"POST"})
NO_POST_OR_PATCH: Final = frozenset({"POST", "PATCH"})


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One kind of definition.

    Attributes:
        noun: its name in APISIX's messages.
        refused: the methods that its part of the admin API does not have.
        since: the first release that has it.
        old_name: its name in the admin API before 3.0.
        has_effect: whether the development gateway uses these definitions. It stores and returns the others.
        filters: the fields that the query parameter `filter` of a list supports.
    """

    noun: str
    refused: frozenset[str] = frozenset()
    since: Version = EARLIEST
    old_name: str | None = None
    has_effect: bool = True
    filters: frozenset[str] = field(default=frozenset())


_REFERENCES: Final = frozenset({"service_id", "upstream_id"})

# In the order in which definitions refer to each other. Source: APISIX 3.18, apisix/admin.
KINDS: Final[dict[str, Kind]] = {
    "upstreams": Kind("upstream"),
    "services": Kind("service"),
    "plugin_configs": Kind("plugin config", NO_POST),
    "consumer_groups": Kind("consumer group", NO_POST, since=(3, 0)),
    "consumers": Kind("consumer", NO_POST_OR_PATCH),
    "credentials": Kind("credential", NO_POST_OR_PATCH, since=(3, 11)),
    "global_rules": Kind("global rule", NO_POST),
    "routes": Kind("route", filters=_REFERENCES),
    "ssls": Kind("ssl", old_name="ssl", has_effect=False),
    "plugin_metadata": Kind("plugin_metadata", NO_POST_OR_PATCH, has_effect=False),
    "protos": Kind("proto", frozenset({"PATCH"}), old_name="proto", has_effect=False),
    "secrets": Kind("secret", NO_POST, since=(3, 1), has_effect=False),
}

NAMED: Final = frozenset({"consumers", "plugin_metadata"})
"""The kinds whose definitions have a name of their own instead of an `id`."""


def kind_of(name: str, version: Version) -> str | None:
    """Return the kind with this name in the admin API of a release, None if the release does not have it."""
    if version < (3,):
        return next((kind for kind, entry in KINDS.items() if name == (entry.old_name or kind) and version >= entry.since), None)
    return name if name in KINDS and version >= KINDS[name].since else None
