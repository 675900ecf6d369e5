# SPDX-License-Identifier: Apache-2.0
"""The gateway that has started the runner: how it is found and watched, and the user of its workers."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.supervisor import gateway_process
from apisix.runner.supervisor.gateway_process import Lifeline, ancestors, gateway_pid, is_running, workers_users


def test_the_ancestors_are_those_of_this_process() -> None:
    """The ancestors begin with the parent, and no pid occurs twice."""
    chain = list(ancestors())

    assert chain[0] == os.getppid()
    assert len(chain) == len(set(chain))


@pytest.mark.parametrize("name", ["runner.sock", "apisix-.sock", "apisix-0.sock", "apisix-1x.sock", "my-apisix-1.sock"])
def test_other_names_are_not_managed(name: str) -> None:
    """A runner is managed only if its socket has a name in the gateway's pattern."""
    assert gateway_pid(f"/conf/{name}") is None


def test_managed_by_an_ancestor() -> None:
    """The pid in the name must be an ancestor, because a stand-alone runner may use a similar name."""
    assert gateway_pid(f"/conf/apisix-{os.getppid()}.sock") == os.getppid()
    assert gateway_pid(f"/conf/apisix-{os.getpid()}.sock") is None


def test_managed_by_another_process_of_the_gateway() -> None:
    """If the master in the name has ended, the runner belongs to the process that has started it."""
    assert gateway_pid(f"/conf/apisix-{ended_pid()}.sock") == os.getppid()


def test_nothing_is_left_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process that started the runner has ended too, the runner does not start."""
    monkeypatch.setattr("apisix.runner.supervisor.gateway_process.ancestors", lambda: iter([1]))
    pid = ended_pid()

    with pytest.raises(SettingsError, match=rf"named after a gateway's process \(pid {pid}\) that has ended"):
        gateway_pid(f"/conf/apisix-{pid}.sock")


def test_a_process_that_was_not_waited_for_has_ended() -> None:
    """A zombie is not running."""
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(process.pid)
    assert is_running(os.getpid())


def ended_pid() -> int:
    """Return the pid of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have children of other users")
def test_users_of_the_children() -> None:
    """The users of a gateway's children are found, except root."""
    program = "import os, sys; os.setuid(int(sys.argv[1])); print(flush=True); sys.stdin.read()"
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(uid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        for uid in (0, 65534, 33)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
        assert workers_users(os.getpid()) == {65534, 33}
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_no_users_of_a_process_that_is_gone() -> None:
    """A gateway that has ended has no workers."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert workers_users(process.pid) == frozenset()


def test_the_end_of_a_process_is_noticed() -> None:
    """The descriptor becomes readable when the process ends, not earlier."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        lifeline = Lifeline(process.pid)
        if lifeline.watchable:
            assert select.select([lifeline], [], [], 0) == ([], [], [])
        process.kill()
        process.wait()
    if lifeline.watchable:
        assert select.select([lifeline], [], [], 5) == ([lifeline], [], [])
    assert not lifeline.alive()
    lifeline.close()
    assert Lifeline(os.getppid()).alive()


def test_the_parents_of_processes_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may contain parentheses, spaces and figures. The chain ends at a process that is not visible, and never loops."""
    monkeypatch.setattr(gateway_process, "_PROC", tmp_path)
    monkeypatch.setattr(os, "getppid", lambda: 30)
    for pid, name, parent in [(30, "nginx: (a) 7 8", 20), (20, "sh", 10), (10, "x) S 5 5", 1)]:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 99 98 0 -1")
    assert list(ancestors()) == [30, 20, 10, 1]

    (tmp_path / "10" / "stat").write_text("10 (x) S 30 99 98 0 -1")
    assert list(ancestors()) == [30, 20, 10]


@pytest.mark.parametrize("has_children_file", [True, False])
def test_users_of_the_children_that_the_system_lists(has_children_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel lists no children, they are found by their parent. Their effective user is used, unless it is root."""
    monkeypatch.setattr(gateway_process, "_PROC", tmp_path)
    for pid, parent, user in [(40, 30, 33), (41, 30, 0), (42, 40, 34), (43, 30, 65534)]:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (nginx) S {parent} 99 98 0 -1")
        (tmp_path / str(pid) / "status").write_text(f"Name:\tnginx\nUid:\t0\t{user}\t0\t0\n")
    (tmp_path / "meminfo").write_text("")
    if has_children_file:
        (tmp_path / "30" / "task" / "30").mkdir(parents=True)
        (tmp_path / "30" / "task" / "30" / "children").write_text("40 41 43 ")

    assert workers_users(30) == {33, 65534}
