# SPDX-License-Identifier: Apache-2.0
"""What `doctor` reports about the gateway's config.yaml."""

import os
import socket
import sys
from pathlib import Path

import pytest

from apisix.cli.diagnosis.gateway import GatewayConfig, examine_gateway, read_gateway_config
from apisix.cli.diagnosis.result import Result

SOCKET = "/run/r.sock"
ALL = "plugins: [ext-plugin-pre-req, ext-plugin-post-req, ext-plugin-post-resp]\n"
CMD = f'ext-plugin: {{cmd: ["{sys.executable}", "-m", "apisix", "start"]}}'


def found(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    """Return the levels and texts of the results."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    config = read_gateway_config(file)
    if isinstance(config, Result):
        return [(config.level, config.text)]
    return [(result.level, result.text) for result in examine_gateway(config, SOCKET)]


@pytest.mark.parametrize(
    ("text", "level", "part"),
    [
        ("ext-plugin: {path_for_test: /run/r.sock}", "ok", "has no list of plugins"),
        ("ext-plugin: {path_for_test: /run/r.sock}", "ok", "path_for_test is the runner's socket"),
        (ALL, "ok", "contains the three phases"),
        (ALL, "problem", "configures no runner"),
        (
            "plugins: [limit-req]",
            "problem",
            "does not contain ext-plugin-pre-req, ext-plugin-post-req, ext-plugin-post-resp, so no route can use",
        ),
        ("plugins: [ext-plugin-post-resp]", "problem", "contains only ext-plugin-post-resp"),
        (
            "plugins: [ext-plugin-pre-req]",
            "warning",
            "does not contain ext-plugin-post-req, ext-plugin-post-resp, so the gateway refuses routes that use it",
        ),
        ("plugins: all", "problem", "does not contain ext-plugin-pre-req"),
        (
            "ext-plugin: {path_for_test: /run/other.sock}",
            "problem",
            "path_for_test is /run/other.sock, but the runner's socket.file is /run/r.sock",
        ),
        ("ext-plugin: {path_for_test: 'unix:/run/r.sock'}", "problem", "adds the prefix unix: itself"),
        ("ext-plugin: {path_for_test: '${{RUNNER}}'}", "warning", "path_for_test contains a variable of the gateway's environment"),
        ("ext-plugin: {path_for_test: /run/r.sock, cmd: [apisix-runner, start]}", "warning", "cmd and path_for_test are both set"),
        ("ext-plugin: {cmd: apisix-runner start}", "problem", "cmd is not a list of strings"),
        ("ext-plugin: {cmd: [/no/such/apisix-runner, start]}", "problem", "begins with /no/such/apisix-runner, which does not exist"),
        ("ext-plugin: {cmd: [sh, /no/such/main.py, start]}", "problem", "cmd contains /no/such/main.py, which can't be read"),
        ("ext-plugin: {cmd: [/bin/py-runner]}", "problem", "cmd does not contain start"),
        ("ext-plugin: {cmd: [sh, go-runner]}", "warning", "cmd starts sh, which does not look like this runner"),
        ("ext-plugin: {cmd: ['${{HOME}}/apisix-runner', start]}", "warning", "cmd contains a variable"),
        (CMD, "ok", f"cmd starts this runner with {sys.executable}"),
        ("ext-plugin: nonsense", "problem", "configures no runner"),
        ("a: [", "problem", "line 1 is not YAML"),
        ("just a text", "problem", "contains no settings"),
    ],
)
def test_results(tmp_path: Path, text: str, level: str, part: str) -> None:
    """Each mistake that keeps the gateway from reaching the runner is reported, and so are correct parts."""
    results = found(tmp_path, text)

    assert [result_level for result_level, result_text in results if part in result_text] == [level], results


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is reported as a problem."""
    config = read_gateway_config(tmp_path / "none.yaml")

    assert isinstance(config, Result)
    assert config.text == f"{tmp_path}/none.yaml can't be read: No such file or directory"


def test_the_runner_that_a_gateway_has_started(tmp_path: Path) -> None:
    """The socket is next to the gateway's configuration, and its name contains the pid of a process. Two candidates are ambiguous."""
    config = GatewayConfig(tmp_path / "config.yaml", {})
    assert config.managed_path() is None

    for pid in (os.getpid(), 2**22 + 1):  # larger than any pid of Linux
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / f"apisix-{pid}.sock"))
    assert config.managed_path() == str(tmp_path / f"apisix-{os.getpid()}.sock")

    (tmp_path / f"apisix-{os.getppid()}.sock").touch()
    assert config.managed_path() is None


@pytest.mark.parametrize(
    ("content", "users"), [({"nginx_config": {"user": "nobody"}}, {65534}), ({"nginx_config": {"user": "no such"}}, set()), ({}, set())]
)
def test_users_of_the_workers(tmp_path: Path, content: dict[str, object], users: set[int]) -> None:
    """The user of nginx_config is returned if it exists on this machine."""
    assert GatewayConfig(tmp_path, content).users() == users


@pytest.mark.parametrize(
    ("version", "warnings"),
    [
        (
            "2.7",
            [
                "does not support info requests in ext-plugin-post-resp",
                "neither variables nor bodies",
                "can't read a request's",
                "can't replace",
            ],
        ),
        ("2.15.3", ["does not support info requests in ext-plugin-post-resp", "can't replace a request's body"]),
        ("3.2.2", ["can't replace a request's body, and it stays unchanged. This needs APISIX 3.6"]),
        ("3.18.0", []),
    ],
)
@pytest.mark.parametrize("place", ["apisix/core", "deps/share/lua/5.1/apisix/core"])
def test_the_release_of_the_gateway(tmp_path: Path, version: str, warnings: list[str], place: str) -> None:
    """If the gateway is installed next to its configuration, what its release does not support is reported."""
    (tmp_path / "conf").mkdir()
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "version.lua").write_text(f'return {{VERSION = "{version}"}}')
    shown = found(tmp_path / "conf", CMD)

    for part in warnings:
        assert [level for level, text in shown if part in text] == ["warning"], shown
    about = [text for _, text in shown if f"APISIX {version}" in text]
    assert len(about) == max(len(warnings), 1)
    assert any("supports everything that plugins can use" in text for text in about) == (not warnings)
