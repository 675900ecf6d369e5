# SPDX-License-Identifier: Apache-2.0
"""The errors of the runner: one hierarchy. Each class has the `Err` code that is sent to the gateway if the error ends a call."""

from enum import IntEnum


class ErrCode(IntEnum):
    """`Err.Code` of the schema, the only thing that an error frame carries. Source: gateway contract, 2."""

    BAD_REQUEST = 0
    SERVICE_UNAVAILABLE = 1
    CONF_TOKEN_NOT_FOUND = 2


class RunnerError(Exception):
    """The base of all errors of the runner. `err_code` is the code sent to the gateway if the error ends a call."""

    err_code = ErrCode.SERVICE_UNAVAILABLE


class RemoteProtocolError(RunnerError):
    """The peer violated the protocol: a malformed frame or buffer, or a message that the connection's state does not allow."""

    err_code = ErrCode.BAD_REQUEST


class LocalProtocolError(RunnerError):
    """This side was about to violate the protocol. The cause is a defect in the calling code, never the peer."""


class MessageTooLarge(LocalProtocolError):
    """A message is longer than a frame can carry."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(size_bytes, limit_bytes)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"a message of {self.size_bytes} bytes does not fit a frame, which can hold at most {self.limit_bytes} bytes"


class UnknownToken(RunnerError):
    """The gateway used a token that this runner has not issued or no longer has."""

    err_code = ErrCode.CONF_TOKEN_NOT_FOUND

    def __init__(self, token: int) -> None:
        super().__init__(token)
        self.token = token

    def __str__(self) -> str:
        return f"no configuration is known for token {self.token}"


class ChainRefused(RunnerError):
    """The plugins of a route can't run: a name is unknown, a configuration is invalid, or a hook is missing."""


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


class StoreError(RunnerError):
    """An operation of the shared store could not be done: Redis is not available, or the file of the store can't be used."""


class MetadataError(RunnerError, ValueError):
    """
    A plugin has changed a list or a dict in the metadata of a request in place, and it is no longer JSON, or is too large.

    Attributes:
        place: the value, as in `metadata['tags']`.
        problem: what is wrong with it, as the end of a sentence.
        plugins: the names of the plugins that got the list or the dict, so that they may have changed it.
    """

    def __init__(self, place: str, problem: str, plugins: tuple[str, ...]) -> None:
        super().__init__(place, problem, plugins)
        self.place = place
        self.problem = problem
        self.plugins = plugins

    def __str__(self) -> str:
        causer = f"plugin {' or '.join(self.plugins)}" if self.plugins else "a plugin"
        return (
            f"{self.place} {self.problem}. It was changed in place by {causer}. Assign the changed value to {self.place}, and the line "
            "that does it raises the error"
        )


class HookFailed(RunnerError):
    """A hook that runs in a process of the pool has raised an exception, or its process has ended."""


class SettingsError(RunnerError):
    """A setting is unknown, or its value is not allowed. The runner does not start."""
