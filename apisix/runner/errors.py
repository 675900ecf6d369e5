# SPDX-License-Identifier: Apache-2.0
"""The runner's errors: one small hierarchy, each class knowing the `Err` code that it becomes on the wire."""

from enum import IntEnum


class ErrCode(IntEnum):
    """`Err.Code` of the schema, the only thing that an error frame carries. Source: gateway contract, 2."""

    BAD_REQUEST = 0
    SERVICE_UNAVAILABLE = 1
    CONF_TOKEN_NOT_FOUND = 2


class RunnerError(Exception):
    """The base of all errors of the runner. `err_code` is what the gateway is told when one ends a call."""

    err_code = ErrCode.SERVICE_UNAVAILABLE


class RemoteProtocolError(RunnerError):
    """The peer broke the protocol: a malformed frame or buffer, or a message that its state does not allow."""

    err_code = ErrCode.BAD_REQUEST


class LocalProtocolError(RunnerError):
    """Our own side was about to break the protocol. A defect of the caller, never of the peer."""


class MessageTooLarge(LocalProtocolError):
    """A message is longer than a frame can carry."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(size_bytes, limit_bytes)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"a message of {self.size_bytes} bytes does not fit a frame, which holds {self.limit_bytes} bytes at most"


class UnknownToken(RunnerError):
    """The gateway used a configuration token that this runner never gave, or has forgotten."""

    err_code = ErrCode.CONF_TOKEN_NOT_FOUND

    def __init__(self, token: int) -> None:
        super().__init__(token)
        self.token = token

    def __str__(self) -> str:
        return f"no configuration is known for token {self.token}"


class ChainRefused(RunnerError):
    """The plugins of a route can't run: a name is unknown, a configuration is not valid, or a hook is missing."""


class UnsupportedEdit(RunnerError, ValueError):
    """A plugin made an edit that can't be sent to the gateway."""


class BodyError(RunnerError, ValueError):
    """A body can't be read: it is too long, damaged, or has an unknown coding, charset or type."""


class DeadlineExceeded(RunnerError, TimeoutError):
    """A call took longer than `limits.plugin_timeout`."""


class CallCancelled(RunnerError):
    """The gateway closed the connection, or the runner is stopping."""


class Overloaded(RunnerError):
    """More calls are waiting than `limits.max_in_flight` allows."""


class WrongContext(RunnerError, RuntimeError):
    """A method was called where it can't work: a plain method in a coroutine, or a method of a call in another thread or process."""


class InfoUnavailable(RunnerError, RuntimeError):
    """A plugin needs an info request that this release of APISIX does not support."""


class SettingsError(RunnerError):
    """A setting is unknown, or its value is not allowed. The runner does not start."""


class PluginLoadError(RunnerError):
    """A plugin can't be offered to routes: its file does not import, or its class is not what a plugin must be."""
