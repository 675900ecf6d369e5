# SPDX-License-Identifier: Apache-2.0
"""Read and write the messages of the schema with the official `flatbuffers` package, as plain dictionaries."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers

# The generated code imports its neighbours as `A6.…`.
sys.path.append(str(Path(__file__).parent))

Values = dict[str, Any]


class Kind(NamedTuple):
    """How a field of the schema is read from the generated accessors, and written with a Builder."""

    read: Callable[[Any, str], Any]
    write: Callable[[Any, Any, str, Any], Any]  # builder, module, name, value -> what `Add` gets


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _read_number(table: Any, name: str) -> int:
    return int(getattr(table, name)())


def _read_text(table: Any, name: str) -> str | None:
    data = getattr(table, name)()
    return None if data is None else _text(data)


def _read_bytes(table: Any, name: str) -> bytes | None:
    if getattr(table, name + "IsNone")():
        return None
    return bytes(getattr(table, name)(index) for index in range(getattr(table, name + "Length")()))


def _read_entries(table: Any, name: str) -> list[tuple[str, str | None]]:
    entries = [getattr(table, name)(index) for index in range(getattr(table, name + "Length")())]
    return [(_text(entry.Name() or b""), None if entry.Value() is None else _text(entry.Value())) for entry in entries]


def names(enumeration: str) -> dict[int, str]:
    """Return the names of an enumeration of the schema, such as `Method`, by their numbers."""
    generated = getattr(import_module(f"A6.{enumeration}"), enumeration.rpartition(".")[2])
    return {number: name for name, number in vars(generated).items() if not name.startswith("__")}


def _read_method(table: Any, name: str) -> str:
    return names("Method")[_read_number(table, name)]


def _write_method(_builder: Any, _module: Any, _name: str, value: str) -> Any:
    return getattr(import_module("A6.Method").Method, value)


def _write_entries(builder: Any, module: Any, name: str, pairs: list[tuple[str, str | None]]) -> Any:
    entry = import_module("A6.TextEntry")
    tables = []
    for key, value in pairs:
        name_at = builder.CreateString(_data(key))
        value_at = None if value is None else builder.CreateString(_data(value))
        entry.Start(builder)
        entry.AddName(builder, name_at)
        if value_at is not None:
            entry.AddValue(builder, value_at)
        tables.append(entry.End(builder))
    getattr(module, f"Start{name}Vector")(builder, len(tables))
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def _read_union(variants: str) -> Callable[[Any, str], Any]:
    def read(table: Any, name: str) -> Any:
        number = _read_number(table, name + "Type")
        if not number:
            return None
        package = variants.rpartition(".")[0]
        word = names(variants)[number]
        generic = getattr(table, name)()
        variant = getattr(import_module(f"A6.{package}.{word}"), word)()
        variant.Init(generic.Bytes, generic.Pos)
        return word, _read_table(f"{package}.{word}", variant)

    return read


def _write_union(variants: str) -> Callable[[Any, Any, str, Any], Any]:
    def write(builder: Any, _module: Any, _name: str, value: tuple[str, Values]) -> Any:
        package, _, union = variants.rpartition(".")
        number = getattr(getattr(import_module(f"A6.{variants}"), union), value[0])
        return number, _write_table(f"{package}.{value[0]}", builder, value[1])

    return write


NUMBER = Kind(_read_number, lambda _builder, _module, _name, value: value)
METHOD = Kind(_read_method, _write_method)
TEXT = Kind(_read_text, lambda builder, _module, _name, value: builder.CreateString(_data(value)))
BYTES = Kind(_read_bytes, lambda builder, _module, _name, value: builder.CreateByteVector(value))
ENTRIES = Kind(_read_entries, _write_entries)
ACTION = Kind(_read_union("HTTPReqCall.Action"), _write_union("HTTPReqCall.Action"))
INFO = Kind(_read_union("ExtraInfo.Info"), _write_union("ExtraInfo.Info"))

TABLES: Mapping[str, Mapping[str, Kind]] = {
    "PrepareConf.Req": {"conf": ENTRIES, "key": TEXT},
    "PrepareConf.Resp": {"conf_token": NUMBER},
    "HTTPReqCall.Req": {
        "id": NUMBER,
        "src_ip": BYTES,
        "method": METHOD,
        "path": TEXT,
        "args": ENTRIES,
        "headers": ENTRIES,
        "conf_token": NUMBER,
    },
    "HTTPReqCall.Stop": {"status": NUMBER, "headers": ENTRIES, "body": BYTES},
    "HTTPReqCall.Rewrite": {"path": TEXT, "headers": ENTRIES, "args": ENTRIES, "resp_headers": ENTRIES, "body": BYTES},
    "HTTPReqCall.Resp": {"id": NUMBER, "action": ACTION},
    "HTTPRespCall.Req": {"id": NUMBER, "status": NUMBER, "headers": ENTRIES, "conf_token": NUMBER},
    "HTTPRespCall.Resp": {"id": NUMBER, "status": NUMBER, "headers": ENTRIES, "body": BYTES},
    "ExtraInfo.Req": {"info": INFO},
    "ExtraInfo.Var": {"name": TEXT},
    "ExtraInfo.ReqBody": {},
    "ExtraInfo.RespBody": {},
    "ExtraInfo.Resp": {"result": BYTES},
    "Err.Resp": {"code": NUMBER},
}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _read_table(table: str, accessors: Any) -> Values:
    return {name: kind.read(accessors, _camel(name)) for name, kind in TABLES[table].items()}


def _write_table(table: str, builder: Any, values: Values) -> Any:
    module = import_module(f"A6.{table}")
    kinds = TABLES[table]
    made = {name: kinds[name].write(builder, module, _camel(name), value) for name, value in values.items() if value is not None}
    module.Start(builder)
    for name, value in made.items():
        if kinds[name] in (ACTION, INFO):
            getattr(module, f"Add{_camel(name)}Type")(builder, value[0])
            value = value[1]
        getattr(module, f"Add{_camel(name)}")(builder, value)
    return module.End(builder)


def read(table: str, payload: bytes) -> Values:
    """Return the fields of a message: entries as pairs, a union as (variant, fields), and None for absent fields."""
    return _read_table(table, getattr(import_module(f"A6.{table}"), table.rpartition(".")[2]).GetRootAs(payload))


def write(table: str, values: Values, *, force_defaults: bool = False) -> bytes:
    """Return a message with these fields. Fields that are None or missing are absent. `force_defaults` writes zeros too."""
    builder = flatbuffers.Builder(64)
    builder.ForceDefaults(force_defaults)
    builder.Finish(_write_table(table, builder, values))
    return bytes(builder.Output())
