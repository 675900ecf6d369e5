# SPDX-License-Identifier: Apache-2.0
"""Run the hook of a plugin with `runs_in = "process"` in this process, with the same data as in a process of the pool."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from apisix.runner.http.plain_data import (
    apply_edits,
    edits_of,
    explain,
    fetch_info,
    fetch_info_blocking,
    from_plain,
    state_of,
    to_plain,
)
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response

Message = Request | Response


def plain_hook(hook: Callable[..., Any]) -> Callable[[Message], Any]:
    """
    Return a hook that calls `hook` with a copy of the request or response, which it makes from plain data.

    The test kit runs plugins like this, so a test fails if the data that the plugin uses can't be passed to another process.
    """

    def run(message: Message) -> Any:
        plain = to_plain(message)
        copy = from_plain(plain, partial(fetch_info_blocking, message), afetch=partial(fetch_info, message))
        before = state_of(copy)

        def end(result: Any) -> Any:
            is_valid = result is None or isinstance(result, Reply)
            return apply_edits(message, edits_of(plain, before, copy, result)) if is_valid else result

        async def await_and_end(awaitable: Awaitable[Any]) -> Any:
            try:
                result = await awaitable
            except Reply as reply:
                result = reply
            except BaseException as error:
                explain(plain, error)
                raise
            return end(result)

        try:
            result = hook(copy)
        except Reply as reply:
            result = reply
        except BaseException as error:
            explain(plain, error)
            raise
        return await_and_end(result) if isinstance(result, Awaitable) else end(result)

    return run
