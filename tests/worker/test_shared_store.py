# SPDX-License-Identifier: Apache-2.0
"""The choice of the shared store by the settings."""

import sys
from pathlib import Path

import pytest

from apisix.runner.errors import SettingsError, StoreError
from apisix.runner.settings.loading import load
from apisix.runner.settings.table import Settings
from apisix.runner.state.embedded import EmbeddedBackend
from apisix.runner.state.redis_server import RedisBackend
from apisix.runner.worker.shared_store import check_store, opener_for

SECRET = "pa55word"  # noqa: S105  # it must not be in any message


def test_file_by_default(tmp_path: Path) -> None:
    """Without state.url, the entries are on this machine."""
    backend = opener_for(Settings(socket_file=str(tmp_path / "r.sock"), state_directory=str(tmp_path)))()
    backend.close()
    assert type(backend) is EmbeddedBackend


def test_redis_by_its_url() -> None:
    """With state.url, the entries are in Redis. Nothing is connected before the first use."""
    backend = opener_for(Settings(state_url=f"redis://:{SECRET}@127.0.0.1:1"))()
    assert type(backend) is RedisBackend
    with pytest.raises(StoreError, match=r"Redis is not available: .*127\.0\.0\.1:1") as raised:
        backend.get([b"x"])
    assert SECRET not in str(raised.value)


def test_url_that_cannot_be_used() -> None:
    """The start is refused. The message does not contain the password."""
    with pytest.raises(SettingsError, match=r"the URL of state\.url can't be used: it must have an address") as raised:
        check_store(Settings(state_url=f"redis://user:{SECRET}/@h"))
    assert SECRET not in str(raised.value)


def test_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the command that installs it."""
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(SettingsError, match=r"pip install 'apisix-python-plugin-runner\[redis\]'"):
        check_store(Settings(state_url="redis://localhost"))


def test_url_from_a_file(tmp_path: Path) -> None:
    """The URL can be in a file of its own, as secrets of Kubernetes are."""
    (tmp_path / "url").write_text(f"redis://:{SECRET}@h\n")
    (tmp_path / "config.yaml").write_text("state:\n  url: file:url\n")

    assert load(tmp_path / "config.yaml", {}, {}).state_url == f"redis://:{SECRET}@h"


def test_settings_do_not_show_the_url() -> None:
    """The representation of the settings has all fields, but not the values of secrets."""
    shown = repr(Settings(state_url=f"redis://:{SECRET}@h"))
    assert (SECRET in shown, "state_url='(secret)'" in shown, "state_size=33554432" in shown) == (False, True, True)
    assert "state_url=None" in repr(Settings())


def test_message_for_a_url_with_a_control_character() -> None:
    """A value that is not allowed is not in the message."""
    with pytest.raises(SettingsError, match=r"the value of state\.url is not allowed; it must be a string without control") as raised:
        load(None, {}, {"APISIX_RUNNER_STATE_URL": f"redis://:{SECRET}\t@h"})
    assert SECRET not in str(raised.value)
