# SPDX-License-Identifier: Apache-2.0
"""
Tokens and their route configurations, in one SQLite file that all workers share and that survives restarts.

The gateway requests a token over one connection, and uses it over all of them, for up to 1.9 times `APISIX_CONF_EXPIRE_TIME`. If a token
is unknown, the gateway discards the tokens of all routes. So the file outlives the processes, and a token is never used for other content
while the gateway may still use it. Source: design, 6; gateway contract, 3.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from apisix.runner.conf_store.memory_fallback import MemoryFallback
from apisix.runner.conf_store.placement import choose_path, clear_stale
from apisix.runner.conf_store.sqlite_file import Damaged, StoreFile
from apisix.runner.conf_store.write_lock import WriteLock
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration

__all__ = ["MAX_TOKEN", "ConfStore", "choose_path", "clear_stale"]

MAX_TOKEN = 2**31 - 1

# At most this many rows are removed during one PrepareConf, so that many rows that expire together do not delay its reply.
SWEEP_ROWS = 50

_SELECT = "SELECT seal, content, given_at, used_at FROM configuration WHERE token = ?"
_INSERT = """
    INSERT INTO configuration (token, seal, content, given_at, used_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (token) DO NOTHING
"""
_RENEW = "UPDATE configuration SET content = ?, given_at = ?, used_at = ? WHERE token = ?"
_USE = "UPDATE configuration SET used_at = ? WHERE token = ?"
_EXPIRE_LIVING = """
    DELETE FROM configuration WHERE token IN (
        SELECT token FROM configuration WHERE content IS NOT NULL AND used_at < ? AND given_at < ? LIMIT ?)
"""
_EXPIRE_EMPTIED = """
    DELETE FROM configuration WHERE token IN (
        SELECT token FROM configuration WHERE content IS NULL AND used_at < ? AND given_at < ? LIMIT ?)
"""
_COUNT_LIVING = "SELECT count(*) FROM configuration WHERE content IS NOT NULL"
_COUNT_EMPTIED = "SELECT count(*) FROM configuration WHERE content IS NULL"
_EVICT = """
    UPDATE configuration SET content = NULL
    WHERE token IN (SELECT token FROM configuration WHERE content IS NOT NULL ORDER BY used_at LIMIT ?)
"""
_FORGET = "DELETE FROM configuration WHERE token IN (SELECT token FROM configuration WHERE content IS NULL ORDER BY used_at LIMIT ?)"


class ConfStore:
    """
    Stores configurations and returns their tokens, and looks tokens up. One object per worker, opened after the fork, used by one thread.

    No error of the file raises an exception. Configurations that can't be written are kept in memory, where the other workers find them if
    there is a fallback file. A damaged file is replaced by a new one. Each kind of error is logged once, until a write succeeds.
    """

    def __init__(
        self,
        path: Path,
        *,
        expire_s: float,
        max_entries: int,
        clock: Callable[[], float] = time.time,
        token_hash: Callable[[bytes], int] | None = None,
        write_lock: WriteLock | None = None,
        fallback: MemoryFallback | None = None,
    ) -> None:
        """
        Open the store. Create it if it is missing.

        Args:
            path: the path that `choose_path` returned.
            expire_s: the gateway's `APISIX_CONF_EXPIRE_TIME`, in seconds.
            max_entries: about how many configurations are stored.
            clock: returns the seconds since 1970.
            token_hash: returns the first token to try for a content, from 1 to `MAX_TOKEN`.
            write_lock: shared with the other workers, so that one worker writes at a time.
            fallback: shared with the other workers, for configurations that cannot be written.
        """
        self._file = StoreFile(path, write_lock)
        self._fallback = fallback
        self._clock = clock
        self._token_hash = token_hash or _token_hash
        self._max_entries = max_entries
        self._write_every_s = 1.2 * expire_s / 10
        # The times in the file are up to `_write_every_s` old, so an entry is kept for that much longer.
        self._life_after_use_s = 1.2 * expire_s + self._write_every_s
        self._least_life_s = 2 * expire_s + self._write_every_s
        self._puts_per_sweep = max(1, max_entries // 100)
        self._puts_until_sweep = 1
        self._used_at: dict[int, float] = {}
        self._unwritten: dict[int, bytes] = {}
        self._file.attempt(lambda: None)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._file.path

    def put(self, key: str | None, conf: Sequence[tuple[str, str]]) -> int:
        """
        Return the token of this key and conf. It is the same for the same content, as long as the gateway can have the token. Plugins
        without a key get a new token each time.
        """
        return self.put_many([(key, conf)])[0]

    def put_many(self, configurations: Iterable[tuple[str | None, Sequence[tuple[str, str]]]]) -> list[int]:
        """Return the tokens of several keys and confs, in their order. New ones are written in one transaction."""
        contents = [_encode(key, conf) for key, conf in configurations]
        tokens = self._file.attempt(lambda: self._find_all(contents)) or [None] * len(contents)
        new = list(dict.fromkeys(content for content, token in zip(contents, tokens, strict=True) if token is None))
        if not new and not self._unwritten:
            return [token for token in tokens if token is not None]
        given = self._file.attempt(lambda: self._write(new))
        if given is None:
            given = {content: self._remember(content) for content in new}
        return [given[content] if token is None else token for content, token in zip(contents, tokens, strict=True)]

    def get(self, token: int) -> RouteConfiguration | None:
        """Return the configuration of `token`, or None if it is unknown. This counts as a use of the token."""
        if token in self._unwritten:
            return _configuration(self._unwritten[token])
        if not 0 < token <= MAX_TOKEN:
            return None
        # Only after a miss, check whether another worker has replaced the file.
        found = self._file.attempt(lambda: self._read(token), follow=False) or self._file.attempt(lambda: self._read(token))
        if found is None and self._fallback is not None and (content := self._fallback.get(token)) is not None:
            return _configuration(content)
        return found

    def count(self) -> int:
        """Return how many configurations are stored. This is slow if there are many."""
        counted = self._file.attempt(lambda: int(self._file.execute(_COUNT_LIVING).fetchone()[0]))
        return (counted or 0) + len(self._unwritten)

    def abandon(self) -> None:
        """Close the descriptors in a child of this process, in which SQLite must not be called, not even to close the file."""
        path = os.path.realpath(self._file.path)
        with suppress(OSError):  # only Linux lists the descriptors that lead to a file
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/self/fd/{name}").startswith(path):
                        os.close(int(name))

    def close(self) -> None:
        """Close the file. It is not removed, so that the next start can use it."""
        self._file.close()

    def _find_all(self, contents: Sequence[bytes]) -> list[int | None]:
        if len(contents) == 1:
            return self._find(contents)
        with self._file.reading():
            return self._find(contents)

    def _find(self, contents: Sequence[bytes]) -> list[int | None]:
        """
        Return the tokens of contents that were written recently, and None for the others.

        This is the common case, because the gateway sends the same configurations after each of its reloads. It needs no lock and no write.
        """
        now = self._clock()
        tokens: list[int | None] = []
        for content in contents:
            token = self._token_hash(content)
            row = self._row(token)
            is_recent = row is not None and max(abs(now - row[2]), abs(now - row[3])) <= self._write_every_s
            tokens.append(token if row is not None and is_recent and row[0] == _seal(token, content) and row[1] == content else None)
        return tokens

    def _write(self, contents: Sequence[bytes]) -> dict[bytes, int]:
        """Insert a row for each content, or renew its row, and return the tokens."""
        now = self._clock()
        with self._file.transaction():
            tokens = {content: self._claim(self._token_hash(content), content, now) for content in contents}
            moved = {waiting: self._claim(waiting, content, now) for waiting, content in self._unwritten.items()}
            self._sweep(now, len(contents))
        # If another content has the token by now, only this worker can use the token, so it is kept in memory.
        self._unwritten = {given: self._unwritten[given] for given, written in moved.items() if given != written}
        for token in tokens.values():
            self._note_use(token, now)
        return tokens

    def _claim(self, token: int, content: bytes, now: float) -> int:
        """Write `content` under `token` or, if other content has that token, under the next free one."""
        while True:
            seal = _seal(token, content)
            if self._file.execute(_INSERT, (token, seal, content, now, now)).rowcount:
                return token
            row = self._row(token)
            if row is None:
                raise Damaged("a row is only in the index of tokens")
            if row[0] == seal:
                self._file.execute(_RENEW, (content, now, now, token))
                return token
            token = token % MAX_TOKEN + 1

    def _read(self, token: int) -> RouteConfiguration | None:
        row = self._row(token)
        if row is None:
            return None
        seal, content, given_at, used_at = row
        now = self._clock()
        if content is None or (used_at < now - self._life_after_use_s and given_at < now - self._least_life_s):
            return None
        if seal != _seal(token, content):
            raise Damaged("the seal of a row does not match its content")
        if abs(now - max(used_at, self._used_at.get(token, 0.0))) > self._write_every_s:
            # A call is not refused if its use of the token can't be written.
            with suppress(sqlite3.OperationalError):
                self._use(token, now)
        elif token not in self._used_at:
            self._note_use(token, used_at)
        return _configuration(content)

    def _row(self, token: int) -> tuple[bytes, bytes | None, float, float] | None:
        row = self._file.execute(_SELECT, (token,)).fetchone()
        if row is None:
            return None
        seal, content, given_at, used_at = row
        times_are_numbers = isinstance(given_at, float) and isinstance(used_at, float)
        if not (isinstance(seal, bytes) and isinstance(content, bytes | None) and times_are_numbers):
            raise Damaged("a column has a value of the wrong type")
        return seal, content, given_at, used_at

    def _use(self, token: int, now: float) -> None:
        self._note_use(token, now)
        self._file.execute(_USE, (now, token))

    def _note_use(self, token: int, used_at: float) -> None:
        """Remember the time in the file, so that `get` rarely has to write."""
        if len(self._used_at) >= self._max_entries:
            self._used_at.clear()
        self._used_at[token] = used_at

    def _sweep(self, now: float, puts: int) -> None:
        """
        Remove expired rows, and remove the content of rows over the limit.

        Counting many rows is slow, so it is done only once for many configurations. Expired rows are removed in batches.
        """
        self._puts_until_sweep -= puts
        if self._puts_until_sweep > 0:
            return
        execute = self._file.execute
        limits = (now - self._life_after_use_s, now - self._least_life_s, SWEEP_ROWS)
        if max(execute(statement, limits).rowcount for statement in (_EXPIRE_LIVING, _EXPIRE_EMPTIED)) == SWEEP_ROWS:
            self._puts_until_sweep = 1  # there are more, which the next call removes
            return
        for count, reduce in ((_COUNT_LIVING, _EVICT), (_COUNT_EMPTIED, _FORGET)):
            (rows,) = execute(count).fetchone()
            if rows > self._max_entries:
                execute(reduce, (rows - self._max_entries,))
        self._puts_until_sweep = self._puts_per_sweep

    def _remember(self, content: bytes) -> int:
        """Keep content that can't be written in memory, and return its token."""
        token = self._token_hash(content)
        while not self._is_free(token, content) or not self._publish(token, content):
            token = token % MAX_TOKEN + 1
        while token not in self._unwritten and len(self._unwritten) >= self._max_entries:
            del self._unwritten[next(iter(self._unwritten))]
        self._unwritten[token] = content
        return token

    def _publish(self, token: int, content: bytes) -> bool:
        """Share `token` and its content with the other workers. Return False if they have other content for it already."""
        return self._fallback is None or self._fallback.put(token, content) or self._fallback.get(token) in (None, content)

    def _is_free(self, token: int, content: bytes) -> bool:
        """Return whether no other content is known to have `token`. A file that can't be written can often still be read."""
        row = self._file.attempt(lambda: self._row(token))
        return self._unwritten.get(token, content) == content and (row is None or row[0] == _seal(token, content))


class _Content(NamedTuple):
    key: bytes | None
    conf: list[tuple[bytes, bytes]]
    nonce: bytes = b""


def _encode(key: str | None, conf: Sequence[tuple[str, str]]) -> bytes:
    """
    Return the encoding of key and conf. It includes lengths, so different contents have different encodings.

    Without a key, two routes with equal plugins can't be distinguished, and must not share instances. So each encoding is unique.
    """
    pairs = [(_to_bytes(name), _to_bytes(value)) for name, value in conf]
    if key is None and pairs:
        return msgspec.msgpack.encode(_Content(None, pairs, os.urandom(16)))
    return msgspec.msgpack.encode((None if key is None else _to_bytes(key), pairs))


_decode = msgspec.msgpack.Decoder(_Content).decode


def _configuration(content: bytes) -> RouteConfiguration:
    try:
        key, entries, _ = _decode(content)
    except msgspec.MsgspecError as error:
        raise Damaged("the content of a row can't be decoded") from error
    return RouteConfiguration(None if key is None else _to_text(key), tuple([(_to_text(name), _to_text(value)) for name, value in entries]))


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _token_hash(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=4).digest(), "big") & MAX_TOKEN or 1


def _seal(token: int, content: bytes) -> bytes:
    return blake2b(content, digest_size=16, salt=token.to_bytes(8, "big")).digest()
