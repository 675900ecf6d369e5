# SPDX-License-Identifier: Apache-2.0
"""How long a token is kept, and that only one PrepareConf runs at a time."""

import asyncio
from pathlib import Path

import pytest

from apisix.gateway.phases import tokens as tokens_module
from apisix.gateway.phases.tokens import Tokens
from apisix.gateway.runner.connection_pool import RunnerFailed
from tests.gateway.bed import TestBed

CONF = {"conf": [{"name": "a", "value": "{}"}]}


async def test_kept_by_key(tmp_path: Path) -> None:
    """A key is requested once. For another key, or after a flush, it is requested again."""
    async with TestBed(tmp_path) as bed:
        tokens = Tokens(bed.pool)
        first = await tokens.get("k1", CONF)
        assert await tokens.get("k1", CONF) == first
        assert await tokens.get("k2", CONF) != first
        tokens.flush()
        assert await tokens.get("k1", CONF) != first

    assert [entry["key"] for entry in bed.runner.seen] == ["k1", "k2", "k1"]


async def test_expires(tmp_path: Path) -> None:
    """After its lifetime, a token is requested again."""
    async with TestBed(tmp_path) as bed:
        tokens = Tokens(bed.pool, lifetime_s=0.0)
        await tokens.get("k1", CONF)
        await tokens.get("k1", CONF)

    assert len(bed.runner.seen) == 2


async def test_asked_once_by_many(tmp_path: Path) -> None:
    """Requests that arrive at the same time share one PrepareConf."""
    async with TestBed(tmp_path) as bed:
        tokens = Tokens(bed.pool)
        given = await asyncio.gather(*(tokens.get("k1", CONF) for _ in range(5)))

    assert (len(set(given)), len(bed.runner.seen)) == (1, 1)


async def test_one_lock_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one PrepareConf hangs, that of another route fails when its wait for the lock is over."""
    monkeypatch.setattr(tokens_module, "LOCK_TIMEOUT_S", 0.05)
    async with TestBed(tmp_path) as bed:
        bed.runner.prepare_gate = asyncio.Event()
        tokens = Tokens(bed.pool)
        tasks = [asyncio.create_task(tokens.get(key, CONF)) for key in ("k1", "k2")]
        (failed,), (hanging,) = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(RunnerFailed, match="another PrepareConf"):
            failed.result()
        bed.runner.prepare_gate.set()
        await hanging
