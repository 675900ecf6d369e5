# SPDX-License-Identifier: Apache-2.0
"""The commands of README.md, which the cookbook shows too, with `apisix-runner dev`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dev_process import Dev
from tests.docs.cookbook import recipes
from tests.ports import reserved_port

EXAMPLES = Path(__file__).parent.parent
# Those of the commands that show how a plugin refuses something.
STATUSES = {
    "fault_injection": {200, 503},
    "graphql_depth": {400},
    "json_schema": {422},
    "near_duplicate": {422},
    "prompt_guard": {403},
    "say": {503},
    "soap_fault": {400},
    "upload_check": {415},
}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="curl or openssl is not installed")
def test_commands_of_the_recipes(tmp_path: Path) -> None:
    """Each command can be pasted, and has the result that the recipe describes."""
    shutil.copytree(EXAMPLES / "plugins", tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "geo.mmdb"):
        shutil.copy(EXAMPLES / name, tmp_path)
    routes = (EXAMPLES / "apisix.yaml").read_text(encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    statuses: dict[str, int] = {}
    with reserved_port() as gateway, reserved_port() as upstream:
        (tmp_path / "apisix.yaml").write_text(routes.replace(":9080", f":{gateway}").replace(":1980", f":{upstream}"), encoding="utf-8")
        with Dev(tmp_path, "--port", str(gateway), "--upstream-port", str(upstream)):
            for recipe in recipes():
                commands = "\n".join(recipe.commands).replace(":9080", f":{gateway}")
                result = subprocess.run(["/bin/bash", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, timeout=30)
                found = re.search(rb"^HTTP/1.1 ([0-9]{3})", result.stdout, re.MULTILINE)
                statuses[recipe.file.stem] = int(found[1]) if found else 0

    assert {stem: status for stem, status in statuses.items() if status not in STATUSES.get(stem, {200})} == {}
