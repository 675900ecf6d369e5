# SPDX-License-Identifier: Apache-2.0
"""Write the routes that are measured to a gateway: to a stand-alone file, or over its admin API."""

import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from bench.cases import Case
from bench.files import CannotMeasure

PREFIX = "/bench"
PLAIN = "plain"
"""The route without plugins."""
ADMIN_TIMEOUT_S = 10.0


def uri(name: str) -> str:
    """Return the path of the route with this name."""
    return f"{PREFIX}/{name}"


def routes(cases: Sequence[Case], upstream: str) -> list[dict[str, Any]]:
    """Return the definitions of the plain route and of one route for each case."""
    return [_route(PLAIN, upstream, {}), *(_route(case.name, upstream, _plugins(case)) for case in cases)]


def _route(name: str, upstream: str, plugins: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"bench-{name}",
        "uri": uri(name),
        "plugins": plugins,
        "upstream": {"type": "roundrobin", "nodes": {upstream: 1}},
    }


def _plugins(case: Case) -> dict[str, Any]:
    phase = "ext-plugin-post-resp" if case.response_phase else "ext-plugin-pre-req"
    return {phase: {"conf": [{"name": name, "value": value} for name, value in case.plugins]}}


@contextmanager
def in_file(path: Path, definitions: Sequence[dict[str, Any]]) -> Iterator[None]:
    """
    Add the routes to a stand-alone apisix.yaml, and restore its content at the end.

    Raises:
        CannotMeasure: the file is not a mapping in YAML, or cannot be written.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
        content = yaml.safe_load(before or "") or {}
        if not isinstance(content, dict) or not isinstance(content.get("routes") or [], list):
            raise CannotMeasure(f"{path} has to be a mapping with a list of routes.")
        merged = content | {"routes": [*(content.get("routes") or []), *definitions]}
        path.write_text(f"{yaml.safe_dump(merged, sort_keys=False)}#END\n", encoding="utf-8")
    except (OSError, yaml.YAMLError) as error:
        raise CannotMeasure(f"The routes cannot be written to {path}: {error}") from error
    try:
        yield
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(before, encoding="utf-8")


@contextmanager
def over_admin_api(url: str, key: str, definitions: Sequence[dict[str, Any]]) -> Iterator[None]:
    """
    Put the routes over the admin API at `url`, and delete them at the end.

    Raises:
        CannotMeasure: the admin API refuses a route, or cannot be reached.
    """
    try:
        for definition in definitions:
            _request(url, key, "PUT", definition["id"], json.dumps({name: value for name, value in definition.items() if name != "id"}))
        yield
    finally:
        for definition in definitions:
            with suppress(CannotMeasure):
                _request(url, key, "DELETE", definition["id"], None)


def _request(url: str, key: str, method: str, id: str, body: str | None) -> None:
    parts = urlsplit(url)
    if parts.hostname is None:
        raise CannotMeasure(f"{url!r} has to be the URL of the admin API, for example http://127.0.0.1:9180.")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=ADMIN_TIMEOUT_S)
    try:
        connection.request(method, f"/apisix/admin/routes/{id}", body, {"X-API-KEY": key, "Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status >= 300:
            raise CannotMeasure(
                f"{method} of the route {id} over the admin API: {reply.status} {reply.read(1000).decode(errors='replace')}"
            )
    except (OSError, http.client.HTTPException) as error:
        raise CannotMeasure(f"The admin API at {url} cannot be reached: {error}") from error
    finally:
        connection.close()
