# SPDX-License-Identifier: Apache-2.0
"""The command `replay`."""

import json
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from apisix.testing import Client, Result
from tests.cli.checking import invoke
from tests.runner_process import RunnerProcess, running
from tests.testing.replaying.recording import write_records

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
KEY = ("key-auth", {"keys": ["alpha-alpha", "beta-beta"]})


def calls(client: Client, rounds: int) -> list[Result]:
    """Send calls through several examples. Each of the five kinds has its own route."""
    results = []
    for number in range(rounds):
        of_round = [
            client.get(f"/say?n={number}", plugins=[("say", {"body": "Back at nine.", "status": 503})], route_key="route#say#1"),
            client.get("/keys", headers={"x-api-key": "alpha-alpha"}, plugins=[KEY], route_key="route#key-auth#1"),
            client.get("/keys", headers={"x-api-key": "unknown-key"}, plugins=[KEY], route_key="route#key-auth#1"),
            client.post(
                "/bodies",
                json={"role": "admin", "n": number},
                plugins=[("request-body-rewrite", {"set": {"role": "guest"}, "remove": ["debug"]})],
                route_key="route#request-body-rewrite#1",
            ),
            client.respond(
                200,
                {"x-secret": "1"},
                b'{"body": 1}',
                plugins=[("redact", {"fields": ["x-secret", "body"]})],
                route_key="route#redact#ext-plugin-post-resp#1",
            ),
        ]
        results += of_round
    return results


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with 20 calls of examples."""
    with Client([EXAMPLES], raise_errors=False) as client:
        return write_records(tmp_path / "calls.jsonl", calls(client, 4))


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Return the examples, of which key-auth refuses with another message."""
    directory = Path(shutil.copytree(EXAMPLES, tmp_path / "changed"))
    plugin = directory / "key_auth.py"
    assert "unknown key" in plugin.read_text()
    plugin.write_text(plugin.read_text().replace("unknown key", "no such key"))
    return directory


def lines_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_no_differences(file: Path) -> None:
    result = invoke("replay", file, "--plugins", EXAMPLES, "--json")

    assert result.exit_code == 0, result.output
    summary = lines_of(result.stdout)[-1]
    assert {**summary, "slower": 0} == {"type": "summary", "calls": 20, "different": 0, "left_out": {}, "slower": 0}


@pytest.mark.process
def test_exactly_the_calls_that_a_change_concerns(file: Path, changed: Path) -> None:
    """Only calls with an unknown key get the other message."""
    command = [sys.executable, "-m", "apisix", "replay", str(file), "--plugins", str(changed), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1, done.stderr
    *lines, summary = lines_of(done.stdout)
    different = [line for line in lines if line["type"] == "different"]
    assert [line["request"] for line in different] == ["GET /keys"] * 4
    assert {str(line["route_key"]) for line in different} == {"route#key-auth#1"}
    assert different[0]["differences"] == [
        {"what": "body of the reply", "before": '{"error":"unknown key"}', "now": '{"error":"no such key"}'}
    ]
    assert (summary["calls"], summary["different"]) == (20, 4)


def test_text_groups_calls_that_differ_in_the_same_way(file: Path, changed: Path) -> None:
    result = invoke("replay", file, "--plugins", changed)
    lines = result.stdout.splitlines()

    assert result.exit_code == 1
    assert lines[0] == "4 calls of route#key-auth#1: body of the reply"
    assert "GET /keys" in lines[1]
    assert lines[2] == '    body of the reply: {"error":"unknown key"} -> {"error":"no such key"}'
    assert lines[7] == "  and 1 more call"
    assert lines[-1] == f"{file}: 20 calls, 4 differ"


@pytest.mark.parametrize(
    ("options", "count"),
    [(["--route", "route#say"], 4), (["--plugin", "redact"], 4), (["--plugin", "redact", "--plugin", "say"], 8)],
)
def test_some_of_the_calls(file: Path, changed: Path, options: list[str], count: int) -> None:
    result = invoke("replay", file, "--plugins", changed, *options)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{file}: {count} calls, no differences"


def test_calls_that_cannot_be_compared_are_counted(file: Path) -> None:
    """Without their configuration, calls can't be replayed. They do not decide the exit status."""
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[1:]))
    result = invoke("replay", file, "--plugins", EXAMPLES)
    reports = result.stdout.splitlines()

    assert result.exit_code == 0
    assert any(line.startswith("4 calls left out: the file has no configuration of this route") for line in reports)
    assert reports[-1] == f"{file}: 20 calls, no differences, 4 left out"


def test_an_incomplete_last_line_is_noted(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])
    result = invoke("replay", file, "--plugins", EXAMPLES)

    assert result.exit_code == 0
    assert "is incomplete, so it was left out" in result.stderr
    assert result.stdout.splitlines()[-1] == f"{file}: 19 calls, no differences"


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (None, [], "does not exist"),
        (b"", [], "contains no call"),
        (b"{}\n", [], "line 1: not a record"),
        (b"not JSON\n", [], "line 1 is incomplete"),
        (b"", ["--route", "route#9"], "contains no call of this route or plugin"),
    ],
)
def test_usage_errors(tmp_path: Path, content: bytes | None, options: list[str], expected: str) -> None:
    file = tmp_path / "calls.jsonl"
    if content is not None:
        file.write_bytes(content)
    result = invoke("replay", file, "--plugins", EXAMPLES, *options)

    assert result.exit_code == 2
    assert expected in result.stderr


def test_what_plugins_print_is_not_in_the_report(file: Path, changed: Path) -> None:
    plugin = changed / "say.py"
    plugin.write_text(plugin.read_text().replace("        return Reply(", "        print('printed')\n        return Reply("))
    result = invoke("replay", file, "--plugins", changed, "--json")

    assert "printed" not in result.stdout
    assert "printed" in result.stderr
    assert len(lines_of(result.stdout)) >= 5


@pytest.mark.process
def test_the_inspector_shows_calls_before_and_now(file: Path, changed: Path) -> None:
    """Each call that differs is a request with two phases: as recorded and as replayed. It contains no secrets."""
    command = [sys.executable, "-m", "apisix", "replay", str(file), "--plugins", str(changed), "--inspect", "--inspect-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            printed = next(line for line in process.stdout if "The inspector" in line)
            found = re.search(r"http://127\.0\.0\.1:\d+", printed)
            assert found is not None, printed
            flows = json.loads(httpx.get(f"{found[0]}/api/flows").text)
            flow = json.loads(httpx.get(f"{found[0]}/api/flows/{flows[0]['id']}").text)
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            status = process.wait(30)

    assert [(each["method"], each["target"], each["status"]) for each in flows] == [("GET", "/keys", 401)] * 4
    assert [phase["phase"].rpartition(" as ")[2] for phase in flow["phases"]] == ["recorded", "replayed"]
    assert flow["error"] == 'differs from the record: body of the reply: {"error":"unknown key"} -> {"error":"no such key"}'
    bodies = [phase["record"]["reply"]["body"]["text"] for phase in flow["phases"]]
    assert bodies == ['{"error":"unknown key"}', '{"error":"no such key"}']
    assert "unknown-key" not in json.dumps(flow)
    assert (status, rest.strip()) == (1, "")


def record_under_load(file: Path, count: int) -> None:
    """Record calls through eight examples with a real runner, which has four connections that are busy all the time."""
    routes = [
        [("say", '{"body": "Back at nine."}')],
        [(KEY[0], json.dumps(KEY[1]))],
        [(KEY[0], json.dumps(KEY[1]))],
        [(JWT[0], json.dumps(JWT[1]))],
        [("request-body-rewrite", '{"set": {"role": "guest"}, "remove": ["debug"]}')],
        [("response-rewrite", '{"set_headers": {"x-frame-options": "DENY"}, "remove_headers": ["server"]}')],
        [("redact", '{"fields": ["x-secret", "body"]}')],
        [("tenant-from-header", "{}"), ("tenant-path", "{}")],
    ]
    token = jwt.encode({"sub": "ali", "aud": "api", "iss": "me", "exp": 4_000_000_000}, JWT_KEY)
    headers = {1: ("x-api-key", "alpha-alpha"), 2: ("x-api-key", "unknown-key"), 3: ("authorization", f"Bearer {token}")}

    def of_one_connection(runner: RunnerProcess, first: int) -> None:
        with runner.peer() as peer:
            phases = ["post-resp" if kind in (5, 6) else "pre-req" for kind in range(8)]
            keys = [f"route#{plugins[0][0]}#ext-plugin-{phase}#1" for plugins, phase in zip(routes, phases, strict=True)]
            tokens = [peer.prepare(*plugins, key=key) for plugins, key in zip(routes, keys, strict=True)]
            for number in range(first, count, 4):
                kind = number % 8
                if kind in (5, 6):
                    peer.respond(tokens[kind], id=number, headers=[("server", "echo")], body=b'{"body": 1, "n": 2}')
                    continue
                peer.request(
                    tokens[kind],
                    id=number,
                    method="POST" if kind == 4 else "GET",
                    path=f"/calls/{number}",
                    headers=[
                        ("host", "acme.example.com"),
                        *([("content-type", "application/json"), ("content-length", "35")] if kind == 4 else ()),
                        *([headers[kind]] if kind in headers else ()),
                    ],
                    answers={"body": b'{"role": "admin", "debug": true   }', "request_id": b"%032x" % number},
                )

    with running("--record", str(file), "--workers", "2", plugins=[EXAMPLES]) as runner:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(partial(of_one_connection, runner), range(4)))
        assert runner.stop() == 0  # after everything is written


JWT_KEY = "a secret of no less than 32 bytes"
JWT = ("jwt-auth", {"algorithm": "HS256", "key": JWT_KEY, "audience": "api", "issuer": "me"})


@pytest.mark.process
@pytest.mark.slow
def test_a_thousand_calls_under_load(tmp_path: Path, changed: Path) -> None:
    """
    Calls are recorded with `start --record`. After a change of key-auth, the 125 calls with an unknown key are reported, and no others.

    The 125 calls with a token can't be compared, because the record has a digest instead of it.
    """
    file = tmp_path / "calls.jsonl"
    record_under_load(file, 1000)
    for plugins, expected in ((EXAMPLES, set()), (changed, {f"GET /calls/{number}" for number in range(2, 1000, 8)})):
        command = [sys.executable, "-m", "apisix", "replay", str(file), "--plugins", str(plugins), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        *lines, summary = lines_of(done.stdout)

        assert {line["request"] for line in lines if line["type"] == "different"} == expected
        assert (summary["calls"], summary["different"], done.returncode) == (1000, len(expected), int(bool(expected)))
        assert list(summary["left_out"].values()) == [125]
