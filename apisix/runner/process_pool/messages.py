# SPDX-License-Identifier: Apache-2.0
"""The messages between a worker and a process of its pool: msgpack, each after its length in 4 bytes."""

from struct import Struct
from typing import Final

import msgspec

from apisix.runner.http.plain_data import PlainCall, PlainEdits

LENGTH: Final = Struct("<I")
MAX_MESSAGE_BYTES: Final = 1 << 27
"""The limit for a message, in bytes. A message contains at most two bodies of a frame."""
MAX_INSTANCES: Final = 64
"""How many instances a process keeps. The least recently used one is closed."""
REPORT: Final = Struct("<ii")
"""What the fork server sends: a process id, and the status with which the process has exited, as in `subprocess`. The id 0 and an error
number mean that no process could be forked."""
FORKED: Final = 1 << 16
"""The second value of a report if the process has just been forked."""


class PluginPlace(msgspec.Struct, frozen=True, array_like=True):
    """
    Where the class of a plugin is defined.

    Attributes:
        directory: the plugin directory that contains its module; None if the module is imported by its name.
        module: the name of the module.
        qualname: the qualified name of the class.
    """

    directory: str | None
    module: str
    qualname: str


# To the process.


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """
    The first message.

    Attributes:
        sys_path: the import path of the worker.
        environ: the environment of the worker.
        log_level: the least severe level that is logged.
        settings: the settings of the worker, encoded.
        store: the function that returns the opener of the shared store, as `package.module:function`. None: there is none.
    """

    sys_path: list[str]
    environ: dict[bytes, bytes]
    log_level: int
    settings: bytes
    store: str | None


class WarmUp(msgspec.Struct, frozen=True, tag="warm-up"):
    """Create and set up instances, until another message arrives. `instances` are the plugins and their configurations."""

    instances: list[tuple[PluginPlace, str]]


class Run(msgspec.Struct, frozen=True, tag="run"):
    """
    Run a hook.

    Attributes:
        plugin: the class of the plugin.
        value: its configuration, as it is in the route.
        hook: the name of the hook.
        call: the request or response.
    """

    plugin: PluginPlace
    value: str
    hook: str
    call: PlainCall


class InfoReplies(msgspec.Struct, frozen=True, tag="info"):
    """The replies to `InfoWanted`, in the same order."""

    values: list[bytes | None]


class InfoRefused(msgspec.Struct, frozen=True, tag="info-refused"):
    """The gateway is too old for an info request. `reason` is the text of the error."""

    reason: str


# From the process.


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process can run hooks. It is the first message that is not a log line."""


class WarmedUp(msgspec.Struct, frozen=True, tag="warmed-up"):
    """The warm-up has ended. It may not be complete."""


class InfoWanted(msgspec.Struct, frozen=True, tag="info-wanted"):
    """The hook waits for variables, or the body if a name is None."""

    names: list[str | None]


class Logged(msgspec.Struct, frozen=True, tag="log"):
    """
    A log line.

    Attributes:
        logger, level, message: of the line.
        traceback: the traceback of its exception, None if there is none.
        fields: its further fields. Values that are not plain are converted to text.
    """

    logger: str
    level: int
    message: str
    traceback: str | None
    fields: dict[str, str | int | float | bool | None]


class StoreCounted(msgspec.Struct, frozen=True, tag="store-counted"):
    """What has been counted about the shared store since the last message of this type. `values` are as of `Counters`."""

    values: tuple[int, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The hook has returned."""

    edits: PlainEdits


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """
    The hook has failed.

    Attributes:
        error: the type and the message of its exception.
        traceback: the traceback.
    """

    error: str
    traceback: str


class Malformed(msgspec.Struct, frozen=True, tag="malformed"):
    """The hook has read a malformed part of the gateway's message. `reason` is the text of the error."""

    reason: str


ToProcess = Hello | WarmUp | Run | InfoReplies | InfoRefused
FromProcess = Ready | WarmedUp | InfoWanted | Logged | StoreCounted | Done | Failed | Malformed


def encode(message: ToProcess | FromProcess) -> bytes:
    """Return a message as bytes, with its length. Raise ValueError if it is too long."""
    data = msgspec.msgpack.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message to or from a process of the pool has {len(data)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    return LENGTH.pack(len(data)) + data
