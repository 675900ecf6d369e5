# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/records.md from `apisix/runner/records/format.py`: `python -m tests.docs.records_reference`."""

import inspect
import json
import re
from typing import Any, Final

import msgspec

from apisix.runner.records import format as records
from tests.docs.pages import DOCS

PAGE: Final = DOCS / "reference" / "records.md"
HEAD: Final = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Generated from apisix/runner/records/format.py by `make docs`. -->
# Records

A record describes one call: what the runner received, what each plugin did, what was requested from the gateway, and what was sent.
`apisix-runner dev --json` prints records, `result.record` of the test kit returns them, and `logging.effects` logs them.

{about}

Secrets are replaced by digests such as `redacted-2c26b46b68ffc68f`. These are:

- the values of headers, arguments, variables, and fields of JSON bodies, forms and metadata, if the name means that they are secret, such
  as `authorization`, `cookie`, `set-cookie`, `x-api-key`, `password` and `token`;
- arguments with such a name in URLs, forms and fragments that other values contain, also if they are percent-encoded, and the user
  information of URLs, such as `https://user:password@host/`;
- the values of a configuration that its JSON Schema marks with `writeOnly`, `secret`, or the format `password`.

If such a value has at least 6 characters, it is also replaced wherever else it occurs in the record, for example in log messages and
binary bodies. The size and the SHA-256 of a body belong to the body without secrets. Equal secrets have equal digests until the runner is
restarted. [Secrets](../guides/record.md#secrets) has more about what is found, and what is not.
"""
CLASSES: Final = (
    records.CallRecord,
    records.ConfigurationRecord,
    records.ChainEntry,
    records.ReceivedRequest,
    records.ReceivedResponse,
    records.InfoRecord,
    records.MetadataRecord,
    records.StepRecord,
    records.Edit,
    records.LogLine,
    records.ErrorRecord,
    records.SourceFrame,
    records.ReplyRecord,
    records.Body,
)


def page() -> str:
    """Return the text of docs/reference/records.md."""
    about = inspect.cleandoc(records.__doc__ or "").partition("\n\n")[2]
    parts = [HEAD.format(about=about), *map(_section, CLASSES)]
    schema = json.dumps(records.json_schema(), indent=1, sort_keys=True)
    return "\n".join([*parts, "## JSON Schema\n", f"```json\n{schema}\n```\n"])


def _section(cls: Any) -> str:
    text, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    described = dict(re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE))
    meanings = {name: re.sub(r"\s+", " ", meaning) for names, meaning in described.items() for name in names.split(", ")}
    info: object = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    rows = [f"| `type` | string | always `{info.tag}` |"] if info.tag is not None else []
    rows += [f"| `{field.name}` | {_type(field.type)} | {meanings.get(field.name, '')} |" for field in info.fields]
    return "\n".join([f"## {cls.__name__}\n", f"{text.strip()}\n", "| field | type | meaning |", "|---|---|---|", *rows, ""])


def _type(kind: msgspec.inspect.Type) -> str:
    """Return a type as JSON has it."""
    match kind:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join("null" if isinstance(part, msgspec.inspect.NoneType) else _type(part) for part in types)
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f'`"{value}"`' for value in sorted(map(str, values)))
        case msgspec.inspect.ListType(item_type=item):
            return f"list of {_type(item)}"
        case msgspec.inspect.TupleType():
            return "pair"
        case msgspec.inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case msgspec.inspect.StrType():
            return "string"
        case msgspec.inspect.IntType():
            return "integer"
        case msgspec.inspect.FloatType():
            return "number"
        case msgspec.inspect.BoolType():
            return "boolean"
    raise TypeError(kind)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
