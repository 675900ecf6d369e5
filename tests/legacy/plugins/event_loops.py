# SPDX-License-Identifier: Apache-2.0
"""A plugin that runs an event loop without showing it in its own files."""

import asyncio


async def _hello():
    return "hello"


def greeting():
    """Run a coroutine as `asyncio.run` does."""
    coroutine = _hello()
    try:
        return asyncio.run(coroutine)
    finally:
        coroutine.close()


def greeting_of_new_loop():
    """Run it in a new loop."""
    loop = asyncio.new_event_loop()
    coroutine = _hello()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        coroutine.close()
        loop.close()
