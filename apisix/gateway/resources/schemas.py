# SPDX-License-Identifier: Apache-2.0
"""
The JSON schemas that the admin API returns, as far as this gateway checks definitions.

Clients use them to check a definition before they send it: `adc lint` and the ingress controller. Plugins that are not emulated have a
schema that accepts every object.
"""

from collections.abc import Mapping
from typing import Any, Final

from apisix.gateway.resources.definitions import (
    CONSUMER_FIELDS,
    CONSUMER_GROUP_FIELDS,
    CREDENTIAL_FIELDS,
    PLUGIN_CONFIG_FIELDS,
    ROUTE_FIELDS,
    SERVICE_FIELDS,
    UPSTREAM_FIELDS,
)
from apisix.gateway.resources.known_plugins import PRIORITIES
from apisix.runner.http.phase import Phase

_FIELDS: Final[dict[str, Mapping[str, str]]] = {
    "route": ROUTE_FIELDS,
    "service": SERVICE_FIELDS,
    "upstream": UPSTREAM_FIELDS,
    "consumer": CONSUMER_FIELDS,
    "credential": CREDENTIAL_FIELDS,
    "consumer_group": CONSUMER_GROUP_FIELDS,
    "plugin_config": PLUGIN_CONFIG_FIELDS,
    "global_rule": PLUGIN_CONFIG_FIELDS,
    "ssl": {},
    "proto": {},
    "stream_route": {},
}
_TYPES: Final[dict[str, dict[str, Any]]] = {
    "id": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 64}, {"type": "integer", "minimum": 1}]},
    "nodes": {"anyOf": [{"type": "object"}, {"type": "array"}]},
}
_TEXT: Final = {"type": "string"}

# Source: apisix/plugins/ext-plugin/init.lua of 3.18.
_EXT_PLUGIN: Final = {
    "type": "object",
    "properties": {
        "conf": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {**_TEXT, "minLength": 1, "maxLength": 128}, "value": _TEXT},
                "required": ["name", "value"],
            },
            "minItems": 1,
        },
        "allow_degradation": {"type": "boolean", "default": False},
    },
}


def schema_of(noun: str) -> dict[str, Any] | None:
    """Return the schema of a kind of definition, for example `route`; None if there is none."""
    if noun not in _FIELDS:
        return None
    properties = {name: _TYPES.get(kind, {"type": kind}) for name, kind in _FIELDS[noun].items()}
    return {"type": "object", "properties": properties}


def plugin_schema(name: str) -> dict[str, Any]:
    """Return the schema of a plugin's configuration."""
    return _EXT_PLUGIN if name in {phase.value for phase in Phase} else {"type": "object"}


def plugin_descriptions(unknown: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Return the content of the response to `GET /apisix/admin/plugins?all=true`. `unknown`: plugins that the release does not have."""
    return {
        name: {"priority": priority, "version": 0.1, "schema": plugin_schema(name)}
        for name, priority in PRIORITIES.items()
        if name not in unknown
    }
