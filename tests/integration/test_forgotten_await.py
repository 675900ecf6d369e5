# SPDX-License-Identifier: Apache-2.0
"""A protecting plugin forgets `await`: in production a warning names it, and with `dev` its calls are refused."""

from pathlib import Path

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp
from tests.runner_process import running

GUARD = """
from apisix import Plugin, Reply

class OwnGuard(Plugin):
    async def allows(self, request): return False
    def on_request(self, request):
        if not self.allows(request):
            return Reply(403)

class VariableGuard(Plugin):
    async def on_request(self, request):
        if not request.avar("consumer_name"):
            return Reply(403)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the plugins."""
    (tmp_path / "guards.py").write_text(GUARD)
    return tmp_path


@pytest.mark.parametrize("name", ["own-guard", "variable-guard"])
def test_in_production_it_is_a_warning(directory: Path, name: str) -> None:
    """Each call logs a warning with the plugin and the route, until the limit for repetitions is reached."""
    with running(plugins=[directory]) as runner, runner.peer() as peer:
        token = peer.prepare((name, ""))
        for _ in range(2):
            assert peer.request(token) == HTTPReqCallResp(7)
        runner.wait_for_log("was never awaited")
        lines = [line for line in runner.log().splitlines() if "was never awaited" in line]

    assert len(lines) == 2
    assert all(f'"plugin": "{name}"' in line and '"route": "route#1#ext-plugin-pre-req#1"' in line for line in lines)
    assert all("guards.py:" in line and '"level": "warning"' in line for line in lines)


@pytest.mark.parametrize("name", ["own-guard", "variable-guard"])
def test_under_dev_the_call_is_refused(directory: Path, name: str) -> None:
    """The error names the line."""
    with running(plugins=[directory], environ={"APISIX_RUNNER_LOGGING_EFFECTS": "true"}) as runner, runner.peer() as peer:
        assert peer.request(peer.prepare((name, ""))) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        runner.wait_for_log("guards.py:", "was never awaited, so it did not run")
