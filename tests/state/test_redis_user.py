# SPDX-License-Identifier: Apache-2.0
"""The rights that docs/guides/redis.md gives to the user of Redis are enough for all operations of the store."""

import re
from pathlib import Path

import pytest

from apisix import Store
from apisix.runner.state.redis_server import RedisBackend
from tests.state.redis_process import running

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "redis.md"


@pytest.mark.process
def test_rights() -> None:
    """A user that can run only the commands of the page can do all operations, and nothing else."""
    (rights,) = re.findall(r"^ACL SETUSER gateway on >s3cret (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    with running() as server, server.servers[0].client() as admin:
        is_old = admin.info("server")["redis_version"] < "7.2"  # the page describes this exception
        words = [word for word in rights.split() if not (is_old and word == "+client|setinfo")]
        admin.execute_command("ACL", "SETUSER", "gateway", "on", ">s3cret", *words)
        backend = RedisBackend(server.url.replace("unix://", "unix://gateway:s3cret@"), 2, 30.0)
        store = Store("limits", _backend=lambda: backend)
        done = [
            store.set("a", 1),
            store.add("b", 1, ttl_s=60),
            store.cas("a", 1, 2, ttl_s=60),
            store.incr("a", ttl_s=60),
            store.incr("c"),
            store.throttle("d", 1)[0],
            store.expire("a", 60),
            store.expire("a", None),
            store.ttl("b") > 0,
            store.get("a"),
            store.get_many(["a", "b"]),
            store.delete("a"),
        ]
        lease = store.lock("a", 60)
        assert lease is not None
        with lease:
            done.append(lease.renew())
        backend.close()

    assert done == [True, True, True, 3, 1, True, True, True, True, 3, {"a": 3, "b": 1}, True, True]
