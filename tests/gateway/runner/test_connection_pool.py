# SPDX-License-Identifier: Apache-2.0
"""Which connections to the runner are kept, and which are not."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from apisix.gateway.runner import connection_pool as runner_pool
from apisix.gateway.runner.connection_pool import MAX_IDLE, RunnerFailed, RunnerPool
from apisix.runner.wire.messages import PrepareConfReq, PrepareConfResp
from tests.gateway.bed import TestBed


async def test_keeps_so_many(tmp_path: Path) -> None:
    """If 40 connections were in use at the same time, 32 are kept."""
    async with TestBed(tmp_path) as bed:
        async with AsyncExitStack() as stack:
            for _ in range(40):
                connection = await stack.enter_async_context(bed.pool.connection())
                await connection.send(PrepareConfReq([], "k"))
                await connection.receive()
        assert (bed.pool.idle_count, MAX_IDLE) == (MAX_IDLE, 32)


async def test_reuses_the_latest(tmp_path: Path) -> None:
    """A call uses an idle connection instead of opening one."""
    async with TestBed(tmp_path) as bed:
        for _ in range(3):
            async with bed.pool.connection() as connection:
                await connection.send(PrepareConfReq([], "k"))
                assert isinstance(await connection.receive(), PrepareConfResp)
        assert bed.runner.connections == 1


async def test_drops_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was idle for longer than 180 s is not used again."""
    async with TestBed(tmp_path) as bed:
        async with bed.pool.connection() as first:
            pass
        monkeypatch.setattr(runner_pool, "KEEPALIVE_S", 0.0)
        async with bed.pool.connection() as second:
            assert first is not second


async def test_drops_what_failed(tmp_path: Path) -> None:
    """A connection on which a call failed is closed."""
    async with TestBed(tmp_path) as bed:
        with pytest.raises(RunnerFailed):
            async with bed.pool.connection():
                raise RunnerFailed("any reason")
        assert bed.pool.idle_count == 0


async def test_drops_what_the_runner_closed(tmp_path: Path) -> None:
    """A connection that the runner closed while it was idle is not used again."""
    async with TestBed(tmp_path) as bed:
        async with bed.pool.connection() as first:
            await first.send(PrepareConfReq([], "k"))
            await first.receive()
        await bed.runner.stop()
        async with asyncio.timeout(5):
            while first.is_usable:  # noqa: ASYNC110  # until the loop has seen the end of the stream, which sets no event
                await asyncio.sleep(0)
        with pytest.raises(RunnerFailed, match="can't connect"):
            async with bed.pool.connection():
                pass


async def test_nobody_listens(tmp_path: Path) -> None:
    """If nothing listens on the path, the call fails at once, and the message contains the path."""
    pool = RunnerPool(str(tmp_path / "none.sock"))
    with pytest.raises(RunnerFailed, match=r"none\.sock: No such file"):
        async with pool.connection():
            pass


async def test_drops_connections_to_replaced_workers(tmp_path: Path) -> None:
    """After workers were replaced, no earlier connection is used again, whether it was idle or in use at that time."""
    async with TestBed(tmp_path) as bed:
        async with bed.pool.connection() as idle, bed.pool.connection() as used:
            await idle.send(PrepareConfReq([], "k"))
            await idle.receive()
        async with bed.pool.connection() as used:
            bed.pool.drop()
        assert bed.pool.idle_count == 0
        async with bed.pool.connection() as new:
            assert new not in (idle, used)
