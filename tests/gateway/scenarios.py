# SPDX-License-Identifier: Apache-2.0
"""The recordings of a real gateway, and the differences between two runs that are allowed."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

Scenario = dict[str, Any]
Pairs = list[list[Any]]

BEHAVIOUR = Path(__file__).parents[1] / "golden" / "behaviour.jsonl"
SCENARIOS: list[Scenario] = [json.loads(line) for line in BEHAVIOUR.read_bytes().splitlines()]

# The recording leaves these out. Source: golden/README.md; `connection` reaches the fetching upstream (frames.jsonl, resp-200).
_LEFT_OUT_OF_RESPONSES = frozenset({"date", "server", "connection", "transfer-encoding"})
_LEFT_OUT_OF_REQUESTS = frozenset(
    {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "connection"}
)
_SHOWN_BYTES = 400


def sorted_pairs(pairs: Pairs) -> Pairs:
    """Sort by name, and keep the order within a name, because a Lua table has no order."""
    return sorted(([name, *rest] for name, *rest in pairs), key=lambda pair: str(pair[0]).lower())


def client_view(status: int, headers: list[tuple[str, str]], body: bytes, *, ordered: bool) -> dict[str, Any]:
    """Return a response in the form of `client_sees`."""
    kept = [[name, value] for name, value in headers if name.lower() not in _LEFT_OUT_OF_RESPONSES]
    return {
        "status": status,
        "headers": kept if ordered else sorted_pairs(kept),
        "body": body.decode("latin-1")[:_SHOWN_BYTES],
        "body_length": len(body),
    }


def upstream_view(seen: list[Scenario], *, ordered: bool) -> list[Scenario]:
    """Return the requests that reached the upstream, with queries compared by name."""
    views = []
    for request in seen:
        path, _, query = request["target"].partition("?")
        headers = [entry for entry in request["headers"] if entry[0].lower() not in _LEFT_OUT_OF_REQUESTS]
        views.append(
            {
                **{name: value for name, value in request.items() if name not in ("port", "protocol")},
                "target": [path, sorted_pairs([list(pair) for pair in parse_qsl(query, keep_blank_values=True)])],
                "headers": headers if ordered else sorted_pairs(headers),
            },
        )
    return views


def runner_view(seen: list[Scenario]) -> list[Scenario]:
    """Return what the runner received, with ids from 0 and sorted tables, and without keys and the upstream's Date and Server."""
    ids = [entry["id"] for entry in seen if "id" in entry]
    views = []
    for entry in seen:
        view = {name: value for name, value in entry.items() if name != "key"}
        if "id" in view:
            view["id"] -= ids[0]
        for name in ("headers", "args"):
            if name in view:
                view[name] = sorted_pairs([pair for pair in view[name] if str(pair[0]).lower() not in ("date", "server")])
        if "asked" in view:
            view["asked"] = [[info, _shown(result), length] for info, result, length in view["asked"]]
        views.append(view)
    return views


def _shown(answer: str | None) -> str | None:
    return None if answer is None else answer[:_SHOWN_BYTES]
