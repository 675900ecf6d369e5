# SPDX-License-Identifier: Apache-2.0
"""
Validate JSON bodies with a JSON Schema (`pip install jsonschema`).

When to use it: if clients send bodies that your upstream does not check well enough. The upstream gets the JSON that
was checked, and not the original bytes, in which a name could appear twice. Set `additionalProperties` to false, because some
parsers ignore the case of names. APISIX has the plugin request-validation for simple schemas; this one supports the draft of
2020, and its replies name the field that is wrong.

Task: Validation
Keywords: JSON Schema, request validation, validate body, OpenAPI, 422, draft 2020-12
"""

import json
from collections.abc import Iterator
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match  # pyright: ignore[reportUnknownVariableType]
from referencing import Registry

from apisix import Plugin, Reply, Request


class JsonSchemaConfig(msgspec.Struct, frozen=True):
    """The schema, and the longest body."""

    schema: dict[str, Any]
    max_bytes: int = 256 * 2**10  # long arrays take long to validate, and other calls wait meanwhile

    def __post_init__(self) -> None:
        try:
            Draft202012Validator.check_schema(self.schema)
        except SchemaError as error:
            raise ValueError(f"the schema is not valid at {error.json_path}: {error.message}") from None


class JsonSchema(Plugin[JsonSchemaConfig]):
    """Refuse bodies that do not match the schema."""

    needs = ("body",)

    def __init__(self) -> None:
        # Without a checker, formats such as email are not checked. Some need more: pip install "jsonschema[format-nongpl]".
        # An empty registry: a $ref to another server is an error, and is not downloaded.
        registry: Registry[Any] = Registry()
        self._validator = Draft202012Validator(self.config.schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)

    def on_request(self, request: Request) -> Reply | None:
        if len(request.read()) > self.config.max_bytes:
            return Reply(413, json={"error": "the body is too long"})
        try:
            data = request.json()
            body = json.dumps(data, allow_nan=False).encode()  # JSON has no NaN, but Python reads it
        except ValueError:
            return Reply(400, json={"error": "the body must be JSON"})
        errors = cast(Iterator[ValidationError], self._validator.iter_errors(data))  # pyright: ignore[reportUnknownMemberType]
        error = cast(ValidationError | None, best_match(errors))
        if error is not None:  # its message contains the value, which can be long
            where = {"at": error.json_path[:200], "rule": str(error.validator)}
            return Reply(422, json={"error": "the body does not match the schema", **where})
        request.body = body
        request.headers["content-type"] = "application/json"
        return None
