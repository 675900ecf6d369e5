# SPDX-License-Identifier: Apache-2.0
"""
`/apisix/admin/configs`: all definitions in one document.

A gateway in API-driven stand-alone mode (since 3.13) has no other admin API; the development gateway has both.
Source: apisix/admin/standalone.lua and config_validate.lua of 3.18.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import yaml

from apisix.gateway.http.answer import Answer, json_answer
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.resources.definitions import InvalidDefinition, Problem
from apisix.gateway.resources.kinds import KINDS
from apisix.gateway.resources.store import Store

_MODIFIED, _DIGEST = "X-Last-Modified", "X-Digest"

# Credentials are listed with the consumers.
LISTS: Final = tuple(kind for kind in [*KINDS, "stream_routes"] if kind != "credentials")


class Configs:
    """The document that was sent last, and what a PUT checks before it replaces the definitions of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._document: dict[str, Any] = {f"{kind}_conf_version": 0 for kind in LISTS}
        self._metadata: dict[str, str] = {}

    def answer(self, context: RequestContext, path: list[str]) -> Answer:
        """Answer a request for `/apisix/admin/configs` or, if `path` has this segment, for `validate` below it."""
        if path == ["validate"] and context.method == "POST":
            document = self._read(context)
            errors = [error for kind in LISTS for error in self._errors(kind, document)]
            return json_answer(400, {"error_msg": "Configuration validation failed", "errors": errors}) if errors else json_answer(200, {})
        if path or context.method not in ("GET", "HEAD", "PUT"):
            return json_answer(404, {"error_msg": "404 Route Not Found"})
        if context.method == "PUT":
            return self._put(context)
        answer = json_answer(200, self._document | {name: self._shown(name) for name in self._metadata})
        answer.headers.extend(self._metadata)
        return answer

    def _shown(self, name: str) -> str | int:
        return int(self._metadata[name]) if name == _MODIFIED else self._metadata[name]

    def _put(self, context: RequestContext) -> Answer:
        digest = context.headers.get(_DIGEST)
        if digest is None:
            raise InvalidDefinition("missing digest header")
        document = self._read(context)
        if self._metadata.get(_DIGEST) == digest:
            return Answer(204)
        for kind in LISTS:
            for error in self._errors(kind, document):
                raise InvalidDefinition(error["error"])
        fresh: dict[str, Any] = {}
        for kind in LISTS:
            field = f"{kind}_conf_version"
            current = self._document[field]
            version = document.get(field, current + 1)
            if version < current:
                raise InvalidDefinition(f"{field} must be greater than or equal to ({current})")
            fresh[field] = version
            items = self._document.get(kind) if version == current else document.get(kind)
            if items:
                fresh[kind] = items
        self._document = fresh
        self._metadata = {_MODIFIED: str(int(time.time())), _DIGEST: digest}
        self._apply()
        answer = Answer(202)
        answer.headers.extend(self._metadata)
        return answer

    def _apply(self) -> None:
        problems: list[Problem] = []
        definitions: dict[str, list[dict[str, Any]]] = {}
        for kind in LISTS:
            # `modifiedIndex` is the version of one definition.
            items = [{name: field for name, field in item.items() if name != "modifiedIndex"} for item in self._document.get(kind, ())]
            if items and (kind not in KINDS or not KINDS[kind].has_effect):
                problems.append(Problem("configs", f"{kind} have no effect in the development gateway"))
            elif items:
                definitions[kind] = items
        version = max(int(self._document[f"{kind}_conf_version"]) for kind in LISTS)
        self._store.replace_file(definitions, str(version), problems)

    def _errors(self, kind: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the errors that APISIX reports for the definitions of a kind, in the form in which its response contains them."""
        errors: list[dict[str, Any]] = []
        if not isinstance(document.get(f"{kind}_conf_version", 0), int | float):
            errors.append({"resource_type": kind, "error": f"{kind}_conf_version must be a number"})
        seen: set[str] = set()
        items = document.get(kind) or []
        for index, item in enumerate(items if isinstance(items, list) else []):
            is_object = isinstance(item, dict)
            id = str(item.get("id", item.get("username", ""))) if is_object else ""
            reason = self._reason_against(kind, id, item) if is_object else "invalid configuration: wrong type: expected object"
            if reason is None and id in seen:
                reason = f"found duplicate {'username' if kind == 'consumers' and 'id' not in item else 'id'} {id} in {kind}"
            if reason is not None:
                errors.append({"resource_type": kind, "resource_id": id, "index": index, "error": reason})
            seen |= {id} if id else set()
        return errors

    def _reason_against(self, kind: str, id: str, item: dict[str, Any]) -> str | None:
        if kind not in KINDS:
            return None
        if kind == "consumers" and "/credentials/" in id:
            kind, id = "credentials", id.replace("/credentials/", "/")
        value = {name: field for name, field in item.items() if name != "modifiedIndex"}
        try:
            self._store.check(kind, id, value, among_others=False)
        except InvalidDefinition as error:
            return str(error)
        return None

    @staticmethod
    def _read(context: RequestContext) -> dict[str, Any]:
        """Return the document in a request. Raise InvalidDefinition if there is none."""
        if not context.body:
            raise InvalidDefinition("invalid request body: empty request body")
        is_yaml = context.headers.get("content-type", "").startswith("application/yaml")
        try:
            document = yaml.safe_load(context.body) if is_yaml else json.loads(context.body)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise InvalidDefinition(f"invalid request body: {error}") from error
        if not isinstance(document, dict):
            raise InvalidDefinition("invalid request body: it is not an object")
        return document
