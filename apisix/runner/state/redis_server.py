# SPDX-License-Identifier: Apache-2.0
"""
Entries in Redis or Valkey, which many machines share.

Each operation is one command. If there is no command for it, it is a Lua script, which the server runs as one command.

A command is never sent twice: if the reply is lost, the server may have run it, and a second increment would be wrong. So redis-py must not
repeat commands. It may follow a redirection in a cluster, because a node that redirects has not run the command.

The plain methods block the thread. Coroutines have to use the async variants. Both have clients of their own, one for each
event loop. A client connects when it is first used, so after the fork.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha1
from typing import Any, Final

import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.exceptions
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from apisix.runner.errors import StoreError
from apisix.runner.state.backend import Backend
from apisix.runner.state.redis_url import RedisUrl, read_url
from apisix.runner.state.values import encode_int

PHASES: Final = 3
"""An operation waits for a free connection, connects, and waits for the reply."""

# Numbers of Lua have 53 bits, so sums are returned as text.
INCR: Final = """
if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return ARGV[1] end
redis.call('INCRBY', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
"""
CAS: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if #ARGV == 1 then redis.call('DEL', KEYS[1])
elseif #ARGV == 2 then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
# The same as throttling.admit, with the clock of the server. Times have 51 bits.
THROTTLE: Final = """
local time = redis.call('TIME')
local now, interval, tolerance = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('GET', KEYS[1]) or '0'
if not string.find(found, '^-?%d+$') then return redis.error_reply('ERR value is not an integer') end
local empty = tonumber(found)
local early = math.min(math.max(0, empty - now), tolerance + interval)
local allowed = early <= tolerance
local next = now + early + (allowed and interval or 0)
if next ~= empty then
  redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', string.format('%.0f', math.floor((next - now) / 1000) + 1))
end
return {allowed and 1 or 0, allowed and early or early - tolerance}
"""

Command = tuple[Any, ...]

_BUSY: Final = "no connection became free in time: state.pool_size is too small, or Redis is too slow"
_SHA: Final = {script: sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (INCR, CAS, THROTTLE)}


class RedisBackend(Backend):
    """
    Entries in a server, in a server that sentinels choose, or in a cluster.

    Args:
        url: as `redis_url` describes it.
        pool_size: how many operations run at the same time, for coroutines and for plain methods each. Further ones wait.
        timeout_s: how long to wait for a free connection, to connect, and for a reply, in seconds.
        prefix: the beginning of all keys, before a colon. It must not contain a colon, so that no two prefixes can have the same key. It
            must not contain braces, because the nodes of a cluster would not share the keys.
    Raises: ValueError: the URL can't be read.
    """

    def __init__(self, url: str, pool_size: int, timeout_s: float, prefix: str = "apisix") -> None:
        self._url = read_url(url)
        self._prefix = prefix.encode() + b":"
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._opening = threading.Lock()
        self._slots = threading.BoundedSemaphore(pool_size)
        self._client: Any = None
        self._async: dict[asyncio.AbstractEventLoop, tuple[Any, asyncio.Semaphore]] = {}

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        found = self._run(_get([self._prefix + key for key in keys]))
        return [found] if len(keys) == 1 else found

    async def aget(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        found = await self._arun(_get([self._prefix + key for key in keys]))
        return [found] if len(keys) == 1 else found

    def put(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return bool(self._run(_put(self._prefix + key, payload, ttl_ms, if_absent)))

    async def aput(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return bool(await self._arun(_put(self._prefix + key, payload, ttl_ms, if_absent)))

    def cas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        if expected is None:
            return self.get((key,)) == [None] if payload is None else self.put(key, payload, ttl_ms, if_absent=True)
        return bool(self._run(_cas(self._prefix + key, expected, payload, ttl_ms)))

    async def acas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        if expected is None:
            return await self.aget((key,)) == [None] if payload is None else await self.aput(key, payload, ttl_ms, if_absent=True)
        return bool(await self._arun(_cas(self._prefix + key, expected, payload, ttl_ms)))

    def incr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return int(self._run(_incr(self._prefix + key, by, ttl_ms)))

    async def aincr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return int(await self._arun(_incr(self._prefix + key, by, ttl_ms)))

    def throttle(self, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        allowed, wait_us = self._run(_throttle(self._prefix + key, interval_us, tolerance_us))
        return bool(allowed), wait_us

    async def athrottle(self, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        allowed, wait_us = await self._arun(_throttle(self._prefix + key, interval_us, tolerance_us))
        return bool(allowed), wait_us

    def delete(self, key: bytes) -> bool:
        return bool(self._run(("DEL", self._prefix + key)))

    async def adelete(self, key: bytes) -> bool:
        return bool(await self._arun(("DEL", self._prefix + key)))

    def expire(self, key: bytes, ttl_ms: int | None) -> bool:
        return _existed(self._run(_expire(self._prefix + key, ttl_ms)))

    async def aexpire(self, key: bytes, ttl_ms: int | None) -> bool:
        return _existed(await self._arun(_expire(self._prefix + key, ttl_ms)))

    def ttl(self, key: bytes) -> int | None:
        return _left(self._run(("PTTL", self._prefix + key)))

    async def attl(self, key: bytes) -> int | None:
        return _left(await self._arun(("PTTL", self._prefix + key)))

    def close(self) -> None:
        client, self._client = self._client, None
        for each in _clients(client):
            each.close()

    async def aclose(self) -> None:
        self.close()
        client, _ = self._async.pop(asyncio.get_running_loop(), (None, None))
        for each in _clients(client):
            await each.aclose()

    # Running a command.

    def _run(self, command: Command) -> Any:
        with self._reporting():
            if not self._slots.acquire(timeout=self._timeout_s):
                raise TimeoutError(_BUSY)
            try:
                send = partial(_send, self._plain())
                try:
                    return send(command)
                except redis.exceptions.NoScriptError:
                    return send(_with_script(command))
            finally:
                self._slots.release()

    async def _arun(self, command: Command) -> Any:
        with self._reporting():
            client, slots = self._here()
            async with asyncio.timeout(PHASES * self._timeout_s):
                await self._slot(slots)
                try:
                    try:
                        return await _send(client, command)
                    except redis.exceptions.NoScriptError:
                        return await _send(client, _with_script(command))
                finally:
                    slots.release()

    async def _slot(self, slots: asyncio.Semaphore) -> None:
        """Wait until a connection is free."""
        if not slots.locked():
            await slots.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await slots.acquire()
        except TimeoutError:
            raise TimeoutError(_BUSY) from None

    def _plain(self) -> Any:
        """Return the client for plain methods. The client of a cluster connects when it is created."""
        if self._client is None:
            if not self._opening.acquire(timeout=self._timeout_s):
                raise TimeoutError("another thread is still connecting")
            try:
                if self._client is None:
                    self._client = _connect(self._url, redis, Retry(NoBackoff(), 0), self._pool_size, self._timeout_s)
            finally:
                self._opening.release()
        return self._client

    def _here(self) -> tuple[Any, asyncio.Semaphore]:
        """Return the client for the running event loop, and what limits its use."""
        loop = asyncio.get_running_loop()
        found = self._async.get(loop)
        if found is None:
            for other in [each for each in self._async if each.is_closed()]:
                self._async.pop(other, None)
            client = _connect(self._url, redis.asyncio, AsyncRetry(NoBackoff(), 0), self._pool_size, self._timeout_s)
            found = self._async[loop] = client, asyncio.Semaphore(self._pool_size)
        return found

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Raise TypeError, ValueError or StoreError instead of other errors."""
        try:
            yield
        except redis.exceptions.ResponseError as error:
            text = str(error)
            if "not an integer" in text:
                raise TypeError("this operation needs an entry that is an int, and this entry has another type") from None
            if "overflow" in text:
                raise ValueError("a stored int must fit in 64 bits with its sign; store it as a str") from None
            raise StoreError(f"Redis has refused an operation of the store: {text}") from error
        except (TimeoutError, redis.exceptions.TimeoutError) as error:
            reason = str(error) or f"no reply (state.timeout is {self._timeout_s:g} s)"
            raise StoreError(f"the store can't be used, because Redis is too slow: {reason}") from error
        except Exception as error:
            # Not only those of redis-py and of the system: uvloop raises RuntimeError if a connection is closed at the wrong moment.
            raise StoreError(f"the store can't be used, because Redis is not available: {error or type(error).__name__}") from error


def _connect(url: RedisUrl, kind: Any, retry: object, pool_size: int, timeout_s: float) -> Any:
    """
    Return a client that never sends a command twice.

    Args: kind: `redis` or `redis.asyncio`. retry: its object for no retries.
    """
    options = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": retry, "protocol": 2, **url.tls}
    pool = {"max_connections": pool_size, **url.user}
    if url.scheme == "cluster":
        node = kind.cluster.ClusterNode
        return kind.RedisCluster(startup_nodes=[node(host, port) for host, port in url.addresses], **options, **pool)
    if url.scheme == "sentinel":
        sentinel = kind.sentinel.Sentinel(url.addresses, sentinel_kwargs={**options, **url.sentinel_user}, **options)
        return sentinel.master_for(url.service, db=url.database, **pool)
    if url.scheme == "unix":
        return kind.Redis(unix_socket_path=url.path, db=url.database, **options, **pool)
    ((host, port),) = url.addresses
    return kind.Redis(host=host, port=port, db=url.database, **options, **pool)


def _clients(client: Any) -> Iterator[Any]:
    """Yield what has to be closed: a client, if any, and its clients for sentinels."""
    if client is not None:
        yield client
        manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
        yield from () if manager is None else manager.sentinels


def _send(client: Any, command: Command) -> Any:
    """Return the reply to a command, or an awaitable of it."""
    if command[0] == "MGET" and hasattr(client, "mget_nonatomic"):
        return client.mget_nonatomic(command[1:])  # the keys of a cluster are on several nodes
    return client.execute_command(*command)


# The commands.


def _get(keys: Sequence[bytes]) -> Command:
    return ("GET" if len(keys) == 1 else "MGET", *keys)


def _put(key: bytes, payload: bytes, ttl_ms: int | None, if_absent: bool) -> Command:
    return ("SET", key, payload, *(() if ttl_ms is None else ("PX", ttl_ms)), *(("NX",) if if_absent else ()))


def _cas(key: bytes, expected: bytes, payload: bytes | None, ttl_ms: int | None) -> Command:
    arguments = (expected,) if payload is None else (expected, payload) if ttl_ms is None else (expected, payload, ttl_ms)
    return ("EVALSHA", _SHA[CAS], 1, key, *arguments)


def _incr(key: bytes, by: int, ttl_ms: int | None) -> Command:
    encode_int(by)  # raises ValueError
    return ("INCRBY", key, by) if ttl_ms is None else ("EVALSHA", _SHA[INCR], 1, key, by, ttl_ms)


def _throttle(key: bytes, interval_us: int, tolerance_us: int) -> Command:
    return ("EVALSHA", _SHA[THROTTLE], 1, key, interval_us, tolerance_us)


def _expire(key: bytes, ttl_ms: int | None) -> Command:
    # PERSIST does not tell an entry without a lifetime from an absent one.
    return ("GETEX", key, "PERSIST") if ttl_ms is None else ("PEXPIRE", key, ttl_ms)


def _with_script(command: Command) -> Command:
    """Return an EVALSHA command as an EVAL command, for a server that does not have the script yet."""
    (script,) = (script for script, sha in _SHA.items() if sha == command[1])
    return ("EVAL", script, *command[2:])


# Their replies.


def _existed(reply: Any) -> bool:
    return reply is not None and reply is not False and reply != 0


def _left(pttl_ms: int) -> int | None:
    return None if pttl_ms == -2 else pttl_ms
